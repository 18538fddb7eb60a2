"""Shares of a round: what each process does of it, and how all of them come to know the whole.

    prompts ─ places rank, rank + n, ... ─> groups, scores, rewards ─ whole_batch ─> of all D documents, in their order
    rows    ─ every n-th group that teaches ─> sums, gradients      ─ whole_pass  ─> of all rows

Between the two every process has the whole batch before it, in the same order: advantages, lessons, entropy control and
figures are computed on each as if it were alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from squish_pl.parallel.ending import SharedError
from squish_pl.parallel.processes import add_up, gather, in_order, share, size
from squish_pl.rl.figures import PassTotals
from squish_pl.rl.rewards import GroupRewards
from squish_pl.types import Document, Experience, Prompt, Rollouts, Scores, groups_of


class Judged(NamedTuple):
    """Groups of a batch with what they earn.

    Attributes:
        groups: D groups.
        scores: Of their summaries.
        rewarded: What they earn.
        used: Each one's [G], see `budget_used`.
    """

    groups: list[Rollouts]
    scores: list[Scores]
    rewarded: list[GroupRewards]
    used: list[Tensor]


def whole_batch(documents: Sequence[Document], prompts: Mapping[int, Prompt], own: Judged) -> Judged:
    """All processes' groups in the order of their documents.

    Args:
        documents: The whole batch.
        prompts: This process's, by their places in the batch.
        own: Its groups; a prompt may have none.

    Raises:
        SharedError: The processes have read different documents.
    """
    places = {id(prompt): place for place, prompt in prompts.items()}
    found = [
        (places[id(judged[0].prompt)], _compact(judged))
        for judged in zip(own.groups, map(_without_tokens, own.scores), own.rewarded, own.used, strict=True)
    ]
    told = gather(([document.id or document.text for document in documents], found))
    if any(ids != told[0][0] for ids, _ in told):
        raise SharedError(
            "the processes have read different documents: data.documents has to name the same files on every machine"
        )
    ordered = sorted((judged for _, some in told for judged in some), key=lambda judged: judged[0])
    return Judged(*([judged[i] for _, judged in ordered] for i in range(4)))


def own_rows(rows: Sequence[Experience]) -> list[Experience]:
    """This process's share of a batch's rows, in whole groups."""
    groups = list(groups_of(rows))
    return [row for place in share(len(groups)) for row in groups[place]]


def whole_pass(
    rows: Sequence[Experience], own: PassTotals, parameters: Sequence[nn.Parameter], with_log_probs: bool
) -> PassTotals:
    """Adds the other processes' part of a policy pass: to the gradients, and to its sums.

    Args:
        rows: Of the whole batch.
        own: Of this process's rows.
        parameters: Those that learn; the gradient of one that had no part in the pass is 0.
        with_log_probs: Whether each row's log-probs are needed, those of other processes too.
    """
    if size() == 1:
        return own
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    lengths = [len(row.completion_ids) for row in own_rows(rows)]
    flat = torch.cat(own.log_probs) if with_log_probs and own.log_probs else torch.zeros(0)
    parts = gather((replace(own, log_probs=[]), lengths, flat))
    add_up([parameter.grad for parameter in parameters if parameter.grad is not None])
    totals = [part for part, _, _ in parts]
    if strange := [i + 1 for i, part in enumerate(totals) if not math.isfinite(part.loss)]:
        own.found_on = f" (on process {', '.join(map(str, strange))} of {size()})"
    penalties = [part.penalty for part in totals if part.penalty is not None]
    return replace(
        own,
        **{name: sum(getattr(part, name) for part in totals) for name in ("tokens", "loss", "entropy", "sampling_gap")},
        sums={
            name: sum(part.sums.get(name, 0.0) for part in totals)
            for name in {n: 0 for part in totals for n in part.sums}
        },
        penalty=sum(penalties) if penalties else None,
        log_probs=_by_row(rows, [flat.split(lengths) for _, lengths, flat in parts]) if with_log_probs else [],
    )


def _by_row(rows: Sequence[Experience], shares: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Log-probs of each process's rows -> of all, in their order."""
    count = len(shares)
    sizes = [len(group) for group in groups_of(rows)]
    by_group = []
    for rank, values in enumerate(shares):
        left = iter(values)
        by_group.append([[next(left) for _ in range(of_group)] for of_group in sizes[rank::count]])
    return [value for group in in_order(by_group) for value in group]


def _without_tokens(scores: Scores) -> Scores:
    """The largest part, which nothing asks for after the rewards."""
    return replace(scores, token_saved=torch.zeros(len(scores.score), 0))


def _compact(value: Any) -> Any:
    """The same with tensors of their own: a view is sent with all that it is a view of."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _compact(part) for key, part in value.items()}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_compact(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        tensors = {f.name: getattr(value, f.name) for f in fields(value)}
        changed = {name: _compact(part) for name, part in tensors.items() if isinstance(part, (Tensor, Mapping))}
        return replace(value, **changed)
    return value
