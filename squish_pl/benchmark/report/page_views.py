"""Findings arranged for the page's tables and bars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.leaderboard import Standing
from squish_pl.benchmark.published import PublishedScore
from squish_pl.benchmark.scores import SCORES, Score
from squish_pl.score.bootstrap import Estimate

_MARK = 2.0  # per cent of the width, where a bar would have no beginning


class Bar(NamedTuple):
    """Where a bar with its whisker is drawn, in per cent of the scale's width; zero and whisker may be missing."""

    zero: float | None
    start: float
    width: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True)
class Scale:
    """The common scale of bars: scores from `low` to `high`, zero among them where the score has one."""

    low: float
    high: float
    has_zero: bool = True

    @classmethod
    def of(cls, estimates: Iterable[Estimate], has_zero: bool = True) -> Scale:
        """Wide enough for all means and intervals."""
        ends = [value for estimate in estimates for value in estimate if math.isfinite(value)]
        ends += [0.0] if has_zero or not ends else []
        return cls(min(ends), max(ends) if max(ends) > min(ends) else min(ends) + 1.0, has_zero)

    def bar(self, estimate: Estimate) -> Bar | None:
        """A mark at the mean for a score without a zero; None where there is no mean."""
        if not math.isfinite(estimate.mean):
            return None
        end = self._at(estimate.mean)
        sure = math.isfinite(estimate.low) and math.isfinite(estimate.high)
        whisker = (self._at(estimate.low), self._at(estimate.high)) if sure else None
        if not self.has_zero:
            return Bar(None, round(end - _MARK / 2, 2), _MARK, whisker)
        zero = self._at(0.0)
        return Bar(zero, min(zero, end), round(abs(end - zero), 2), whisker)

    def _at(self, value: float) -> float:
        # the margin keeps the ends of whiskers inside the picture
        return round(1 + 98 * (value - self.low) / (self.high - self.low), 2)


class View(NamedTuple):
    """The leaderboard under one budget and reference, with the scale of each score's bars."""

    budget: str
    reference: str
    standings: list[Standing]
    scales: Mapping[str, Scale]


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
        View(budget, reference, own, _scales(own, findings.board.scores))
        for (budget, reference), own in grouped.items()
    ]


def _scales(standings: Sequence[Standing], scores: Sequence[Score]) -> dict[str, Scale]:
    """One for SQUISH and SQUISH-novel, which are shares of the same, and one for each measure."""
    shares = Scale.of(standing.scores[score.key] for standing in standings for score in SCORES)
    of_measures = {
        score.key: Scale.of((standing.scores[score.key] for standing in standings), score.has_zero)
        for score in scores[len(SCORES) :]
    }
    return dict.fromkeys([score.key for score in SCORES], shares) | of_measures


def published(scores: Sequence[PublishedScore]) -> Published:
    """Modes, models and budgets in the order of the scores."""
    found = Published(list(dict.fromkeys(score.budget for score in scores)), {})
    for score in scores:
        models = found.modes.setdefault(score.mode, {})
        models.setdefault(score.model, dict.fromkeys(found.budgets))[score.budget] = score.squish
    return found
