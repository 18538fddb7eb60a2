"""The scores of a run: SQUISH and SQUISH-novel, which every run has, then the measures that it was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from squish_pl.score.measures.base import TITLES, Measure, score_title

#: columns that leaderboards and results have beside the scores: a measure of such a name would hide one
OTHER_COLUMNS = frozenset(
    (
        *("budget", "reference", "rank", "contender", "is_baseline", "is_attack", "ahead", "ahead_low", "ahead_high"),
        *("resolved", "documents", "coverage", "failed", "unparsable", "over_budget", "length_used", "copied", "rules"),
        *("id", "url", "sample", "outcome", "reason", "summary", "within_budget", "information", "lead"),
    )
)


class Score(NamedTuple):
    """One of a run's scores.

    Attributes:
        key: "squish", "novel", or the measure's name.
        has_zero: Whether a summary that does not count is worth 0; else it is left out.
    """

    key: str
    has_zero: bool = True

    @property
    def title(self) -> str:
        """As people read it."""
        return score_title(self.key)

    @property
    def nothing(self) -> float:
        """What a summary is worth that does not count: 0, or NaN."""
        return 0.0 if self.has_zero else math.nan


SCORES = (Score("squish"), Score("novel"))  #: those of every run


def scores_of(measures: Iterable[Measure]) -> tuple[Score, ...]:
    """All scores of a run with these measures."""
    return (*SCORES, *(Score(measure.name, measure.has_zero) for measure in measures))


def name_problems(measures: Iterable[Measure]) -> list[str]:
    """Whether each measure has a name that tells it apart, a sentence each."""
    found = []
    for name in (measure.name for measure in measures):
        if name in TITLES:
            found.append(f"score.measures: {name!r} is a score of every run: leave it out")
        elif not name.strip():
            found.append(f"score.measures: a measure cannot be called {name!r}: it needs a name")
        elif name in OTHER_COLUMNS:
            found.append(f"score.measures: a measure cannot be called {name!r}, as a column of the tables is")
    return found


def rank_problems(rank_by: str, scores: Sequence[Score]) -> list[str]:
    """Whether contenders can be ranked by a score, a sentence."""
    can_rank = ", ".join(repr(score.key) for score in scores if score.has_zero)
    if rank_by not in [score.key for score in scores]:
        return [f"rank_by must be a score of the run, but is {rank_by!r}: there are {can_rank}"]
    if any(score.key == rank_by and not score.has_zero for score in scores):
        return [
            f"rank_by: {rank_by!r} has no value for a summary that does not count, so nobody can be ranked by it: take "
            f"one of {can_rank}"
        ]
    return []
