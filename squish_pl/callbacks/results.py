"""What a run came to, `results.json`: every figure and summary before training, of the best adapter and of the last.

    rounds      the round of each of the following, null where there is none
    before      figures of the validation before training, by their keys on the dashboard
    after       those of the adapter in best/; where no best was chosen, the newest
    last        the newest, where they are not those of `after`
    monitor     the figure by which the best is chosen
    summaries   a document under a budget each: document, opening, budget, source (where there are several), and for
                before, after and last what was written then: summary, finish, within_budget, length_used, copied,
                scores

A number that there is not is null. Where a run went on under other budgets, `before` is the first validation that goes
over one of the newest's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from squish_pl.files import written_whole
from squish_pl.rl.validation import SHARES, Validated, budgets_of

_OF_DOCUMENT = ("document_id", "opening", "budget", "source")

Validations = Mapping[int, Mapping[str, float]]  #: figures by the round before them


class RunResults:
    """Remembers the summaries of the validations that the results are about, over all stops and resumptions."""

    def __init__(self) -> None:
        self._lines: dict[int, list[Validated]] = {}

    def take(self, round_: int, lines: Sequence[Validated]) -> None:
        """Adds the summaries of a validation."""
        self._lines[round_] = list(lines)

    def forget_others(self, validations: Validations, best_round: int | None) -> None:
        """Forgets those that the results are not about, so that checkpoints stay small."""
        wanted = {0, *result_rounds(validations, best_round).values()}
        self._lines = {round_: lines for round_, lines in self._lines.items() if round_ in wanted}

    def content(self, validations: Validations, best_round: int | None, monitor: str) -> dict[str, Any]:
        """The file's content, plain values; numbers that are none are still NaN.

        Args:
            validations: Figures of all validations.
            best_round: The round of the adapter in `best/`.
            monitor: The figure by which it is chosen.
        """
        rounds = result_rounds(validations, best_round)
        figures = {name: None if round_ is None else _complete(validations[round_]) for name, round_ in rounds.items()}
        lines = {name: self._lines.get(-1 if round_ is None else round_, []) for name, round_ in rounds.items()}
        return {"rounds": rounds, **figures, "monitor": monitor, "summaries": _side_by_side(lines)}

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint; null for what is no number, so that equal states compare equal."""
        return {str(round_): [_without_nan(asdict(line)) for line in lines] for round_, lines in self._lines.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes them back."""
        self._lines = {int(round_): [_line(told) for told in lines] for round_, lines in state.items()}


def _line(told: Mapping[str, Any]) -> Validated:
    def number(value: float | None) -> float:
        return math.nan if value is None else value

    scores = {key: number(value) for key, value in told["scores"].items()}
    manner = {name: number(told[name]) for name in ("length_used", "copied")}
    return Validated(**{**told, **manner, "scores": scores})


def result_rounds(validations: Validations, best_round: int | None) -> dict[str, int | None]:
    """The rounds of `before`, `after` and, where it is another one, `last`."""
    known = sorted(round_ for round_, figures in validations.items() if figures)
    if not known:
        return {"before": None, "after": None}
    newest = known[-1]
    alike = (round_ for round_ in known if shared_budgets([validations[round_], validations[newest]]))
    first = next(alike, newest)
    last = newest if newest > 0 else None
    after = best_round if best_round in known else last
    rounds = {"before": first if first < newest or first == 0 else None, "after": after}
    return rounds if last == after else rounds | {"last": last}


def shared_budgets(validations: Iterable[Mapping[str, float]]) -> list[str]:
    """The budgets that all of them went over, in the last one's order; a run gone on with may have changed them."""
    found = [budgets_of(figures) for figures in validations]
    return [budget for budget in found[-1] if all(budget in budgets for budgets in found)]


def _complete(figures: Mapping[str, float]) -> dict[str, float]:
    """With the shares that no summary tells anything of, as NaN: whoever reads the file finds every key."""
    places = ("", *(f"@{budget}" for budget in budgets_of(figures)))
    return {
        **figures,
        **{key: math.nan for place in places for s in SHARES if (key := f"val/{s}{place}") not in figures},
    }


def write_results(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the file whole or not at all.

    Raises:
        DataError: It cannot be written; an earlier one is untouched.
    """
    with written_whole(path, "free disk space or set checkpoint.dirpath") as file:
        json.dump(_without_nan(content), file, ensure_ascii=False, indent=1, allow_nan=False)
        file.write("\n")


def _side_by_side(lines: Mapping[str, Sequence[Validated]]) -> list[dict[str, Any]]:
    """A record for each document and budget, in the order in which they are first met."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, some in lines.items():
        for line in some:
            told = asdict(line)
            record: dict[str, Any] = {"document": line.document_id, "opening": line.opening, "budget": line.budget}
            record |= ({"source": line.source} if line.source else {}) | dict.fromkeys(lines)
            told = {key: value for key, value in told.items() if key not in _OF_DOCUMENT}
            found.setdefault((line.document_id, line.budget), record)[name] = told
    return list(found.values())


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
