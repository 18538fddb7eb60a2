"""Findings arranged for the page's tables and bars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.leaderboard import Standing
from squish_pl.benchmark.published import PublishedScore
from squish_pl.score.bootstrap import Estimate


class Bar(NamedTuple):
    """Where a bar with its whisker is drawn, in per cent of the scale's width; the whisker may be missing."""

    zero: float
    start: float
    width: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True)
class Scale:
    """The common scale of a table's bars: scores from `low` to `high`, zero among them."""

    low: float
    high: float

    @classmethod
    def of(cls, estimates: Iterable[Estimate]) -> Scale:
        """Wide enough for all means and intervals."""
        ends = [0.0, *(value for estimate in estimates for value in estimate if math.isfinite(value))]
        return cls(min(ends), max(ends) if max(ends) > min(ends) else 1.0)

    def bar(self, estimate: Estimate) -> Bar | None:
        """None where there is no mean."""
        if not math.isfinite(estimate.mean):
            return None
        zero, end = self._at(0.0), self._at(estimate.mean)
        sure = math.isfinite(estimate.low) and math.isfinite(estimate.high)
        whisker = (self._at(estimate.low), self._at(estimate.high)) if sure else None
        return Bar(zero, min(zero, end), round(abs(end - zero), 2), whisker)

    def _at(self, value: float) -> float:
        # the margin keeps the ends of whiskers inside the picture
        return round(1 + 98 * (value - self.low) / (self.high - self.low), 2)


class View(NamedTuple):
    """The leaderboard under one budget and reference."""

    budget: str
    reference: str
    standings: list[Standing]
    scale: Scale


class Published(NamedTuple):
    """Published values.

    Attributes:
        budgets: All budgets among them.
        modes: By mode, then by model, then by budget; None where a model has no value.
    """

    budgets: list[str]
    modes: dict[str, dict[str, dict[str, float | None]]]


def board_references(findings: Findings) -> list[str]:
    """The references, and their average where the board has it."""
    return list(dict.fromkeys([*findings.references, *(s.reference for s in findings.board.standings)]))


def views(findings: Findings) -> list[View]:
    grouped: dict[tuple[str, str], list[Standing]] = {
        (budget, reference): [] for budget in findings.budgets for reference in board_references(findings)
    }
    grouped |= findings.board.groups()
    return [
        View(budget, reference, own, Scale.of(score for s in own for score in (s.squish, s.novel)))
        for (budget, reference), own in grouped.items()
    ]


def published(scores: Sequence[PublishedScore]) -> Published:
    """Modes, models and budgets in the order of the scores."""
    found = Published(list(dict.fromkeys(score.budget for score in scores)), {})
    for score in scores:
        models = found.modes.setdefault(score.mode, {})
        models.setdefault(score.model, dict.fromkeys(found.budgets))[score.budget] = score.squish
    return found
