"""One benchmark in several processes: they share a store's work, and one of them tells what came of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import torch
from jsonargparse.typing import register_type

from squish_pl.benchmark.compare import Comparison, Prepared, carry_out, findings_of, run_name
from squish_pl.benchmark.crew import Crew, Place
from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.store import Store
from squish_pl.errors import without_credentials


class StorePlace(str):
    """A file, or the address of a database, whose user and password are not shown where settings are."""

    def __repr__(self) -> str:
        return repr(without_credentials(self))


def _place(value: object) -> StorePlace:
    if not isinstance(value, str):
        raise ValueError("expected a file, or postgresql://user@host/database")
    return StorePlace(value)


register_type(StorePlace, serializer=without_credentials, deserializer=_place)


def share(
    what: Comparison,
    work: Prepared,
    store: Store,
    device: torch.device,
    lease: float,
    outputs: Sequence[str | None],
    show: Callable[[Findings], None],
) -> None:
    """Does the work, together with all who do the same on this store; one of them shows the findings.

    Args:
        what: Contenders, references and rules.
        work: Of them.
        store: Answers and scores.
        device: Where the references run.
        lease: Seconds after which others take over from a process that gives no sign of life.
        outputs: Where the findings go, by which the same work is told apart from work for others.
        show: Shows and writes them; called in the first process, by its rank, or in one that has outlived it.
    """
    with Crew(store, Place.of(os.environ), lease) as crew:
        name = run_name(what, work, device, outputs)
        crew.join_once(name)
        scored = carry_out(what, work, store, device, crew)
        if not crew.once(name, lambda: show(findings_of(what, work, scored, store, device))):
            print("done: another process has written the results")


def lease_problems(lease: float) -> list[str]:
    """What is wrong with a lease, a sentence each."""
    if 1 <= lease < math.inf:
        return []
    return [f"lease must be a number of seconds, at least 1, but is {lease}"]
