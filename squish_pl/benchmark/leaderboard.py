"""From answers and scores to a leaderboard: pure functions of rows.

The figure of a contender is the mean over documents of the mean over samples. What cannot be parsed or is over its
budget counts as 0; what failed, or is not scored yet, is left out, and the coverage says so. `leaderboard_tables`
shows the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from statistics import fmean
from typing import NamedTuple

from squish_pl.benchmark.original_rules import NOTE, is_kept
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task
from squish_pl.benchmark.scores import SCORES, Score
from squish_pl.score.bootstrap import Estimate, estimate
from squish_pl.score.ensemble import Rule

_FEWEST = 6  # documents: with five, even if all agree, chance does as well more than once in twenty (2 / 2**5)

_NO_ZERO = "{}: summaries that are over the budget, empty or cannot be parsed are left out of its mean, not counted 0."

_COMBINED: dict[Rule, Callable[[Sequence[float]], float]] = {"mean": fmean, "min": min}


@dataclass(frozen=True, slots=True)
class Row:
    """One task and what came of it.

    Attributes:
        contender: Its name.
        task: What was asked.
        answer: None where it was not asked yet, which counts as a failed one.
        scores: Of a written summary, by the reference's name.
        is_baseline: Whether the contender is a baseline.
        text: The summary as it is scored; None where there is none.
        is_attack: Whether the contender is an attack.
    """

    contender: str
    task: Task
    answer: Answer | None
    scores: Mapping[str, ScoreRecord] = field(default_factory=dict)
    is_baseline: bool = False
    text: str | None = None
    is_attack: bool = False

    @property
    def outcome(self) -> Outcome:
        """What came of the task."""
        return Outcome.FAILED if self.answer is None else self.answer.outcome


@dataclass(frozen=True, slots=True)
class Standing:
    """A contender's line of the leaderboard, for one budget and reference.

    Attributes:
        budget: As text.
        reference: Its name, or `combined_name`.
        rank: From 1, by the score the leaderboard is ranked by.
        contender: Its name.
        is_baseline: Whether it is a baseline.
        scores: The means by the scores' keys, in the run's order.
        ahead: By how much it is ahead of the next in rank, over the documents both have, so it may be below zero;
            None for the last.
        resolved: Whether the interval of `ahead` leaves zero out; None for the last.
        documents: Documents in the means of scores that have a zero; others' leave out what does not count.
        coverage: Share of the tasks in the means.
        failed: Number of tasks without an answer or score.
        unparsable: Share of the answers.
        over_budget: Share of the answers.
        length_used: Mean length of written summaries by their budget, where it allows anything.
        copied: Mean share of written summaries' tokens that lie in an n-gram of the document.
        is_attack: Whether it is an attack.
    """

    budget: str
    reference: str
    rank: int
    contender: str
    is_baseline: bool
    scores: Mapping[str, Estimate]
    ahead: Estimate | None
    resolved: bool | None
    documents: int
    coverage: float
    failed: int
    unparsable: float
    over_budget: float
    length_used: float
    copied: float
    is_attack: bool = False

    @property
    def squish(self) -> Estimate:
        """SQUISH."""
        return self.scores["squish"]

    @property
    def novel(self) -> Estimate:
        """SQUISH-novel."""
        return self.scores["novel"]

    @property
    def mark(self) -> str:
        """What stands beside its name: "attack", "baseline" or nothing."""
        return "attack" if self.is_attack else "baseline" if self.is_baseline else ""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Standings, and what a reader has to know of them.

    Attributes:
        standings: By budget and reference in the order given, then by rank.
        rank_by: Key of the score they are ranked by.
        original_rules: Whether the original's rules made it.
        notes: Sentences to be shown with them.
        scores: The run's, in order.
    """

    standings: list[Standing]
    rank_by: str
    original_rules: bool
    notes: list[str]
    scores: Sequence[Score] = SCORES

    def groups(self) -> dict[tuple[str, str], list[Standing]]:
        """The standings of each (budget, reference)."""
        found: dict[tuple[str, str], list[Standing]] = {}
        for standing in self.standings:
            found.setdefault((standing.budget, standing.reference), []).append(standing)
        return found


def combined_name(rule: Rule) -> str:
    """What stands in the reference's place where scores of several are combined."""
    return f"{rule} of references"


def leaderboard(
    rows: Iterable[Row],
    references: Sequence[str],
    rank_by: str = "squish",
    original_rules: bool = False,
    rule: Rule = "mean",
    scores: Sequence[Score] = SCORES,
) -> Leaderboard:
    """Ranks contenders, for each budget and reference by itself.

    Args:
        rows: One for each contender and task.
        references: Names of the references; with several, their scores combined are ranked too, over tasks that all
            scored.
        rank_by: Key of the score that decides; it must have a zero.
        original_rules: Drop summaries that score 0 and leave out contenders with too few documents then. The rows'
            scores are those of summaries cut where they were too long, but not by much (`runner.scored_text`).
        rule: How one score is made of several references', for each summary: their mean, or the lowest.
        scores: The run's. A summary that does not count is worth 0; to a score without a zero it is worth nothing, and
            left out of the mean.
    """
    by_budget: dict[str, list[Row]] = {}
    for row in rows:
        by_budget.setdefault(row.task.budget, []).append(row)
    board = Leaderboard([], rank_by, original_rules, [NOTE] if original_rules else [], scores)
    board.notes.extend(_NO_ZERO.format(score.title) for score in scores if not score.has_zero)
    for budget, asked in by_budget.items():
        for reference, names in reference_views(references, rule).items():
            results = [
                _result(own, names, budget, reference, original_rules, rule, scores) for own in _by_contender(asked)
            ]
            if original_rules:
                of = {own[0].contender: len({row.task.document_hash for row in own}) for own in _by_contender(asked)}
                few = [s for s in (r.standing for r in results) if not is_kept(s.documents, of[s.contender])]
                where = f"Left out at {budget} ({reference})"
                board.notes.extend(f"{where}: {s.contender}, {s.documents} of {of[s.contender]} documents" for s in few)
                results = [result for result in results if result.standing not in few]
            board.standings.extend(_rank(results, rank_by))
    return board


def reference_views(references: Sequence[str], rule: Rule) -> dict[str, tuple[str, ...]]:
    """Whose scores stand under which name: each reference's under its own, then, of several, all combined."""
    views: dict[str, tuple[str, ...]] = {name: (name,) for name in references}
    if len(references) > 1:
        views[combined_name(rule)] = tuple(references)
    return views


def document_scores(rows: Iterable[Row], references: Sequence[str], rule: Rule, score: Score) -> dict[str, float]:
    """A contender's score of each document that has one, by the document's hash.

    Args:
        rows: The contender's, of one budget.
        references: Whose scores; several are combined.
        rule: How.
        score: Which.
    """
    counted = [counted for row in rows if (counted := _count(row, references, rule, [score])) is not None]
    return _by_document((one.document, one.scores[score.key]) for one in counted)


def lead_over(mine: Mapping[str, float], other: Mapping[str, float]) -> tuple[Estimate, bool]:
    """By how much scores by document are ahead of others, over shared documents; whether the interval leaves 0 out."""
    differences = [mine[document] - other[document] for document in mine if document in other]
    ahead = estimate(differences)
    return ahead, len(differences) >= _FEWEST and (ahead.low > 0 or ahead.high < 0)


class _Counted(NamedTuple):
    """What an answer counts; length and copying are NaN where no summary was written."""

    document: str
    scores: dict[str, float]
    unparsable: float
    over_budget: float
    length_used: float
    copied: float


class _Result(NamedTuple):
    """A contender's standing before it has a rank, and the scores it is made of, by their keys and document hash."""

    standing: Standing
    scores: dict[str, dict[str, float]]


def _by_contender(rows: Iterable[Row]) -> list[list[Row]]:
    ordered = sorted(rows, key=lambda row: row.contender)
    return [list(own) for _, own in groupby(ordered, key=lambda row: row.contender)]


def _count(row: Row, references: Sequence[str], rule: Rule, scores: Sequence[Score]) -> _Counted | None:
    """What a row counts under references together, its scores by the rule and the rest on average; None: left out."""
    document = row.task.document_hash
    if row.outcome is Outcome.FAILED:
        return None
    if row.outcome is Outcome.UNPARSABLE:
        return _Counted(document, {score.key: score.nothing for score in scores}, 1.0, 0.0, math.nan, math.nan)
    if any(name not in row.scores for name in references):
        return None
    records = [row.scores[name] for name in references]
    return _Counted(
        document,
        {score.key: _combined(records, rule, score) for score in scores},
        unparsable=0.0,
        over_budget=fmean(not record.within_budget for record in records),
        length_used=fmean(record.length_used for record in records),
        copied=fmean(record.copied for record in records),
    )


def _combined(records: Sequence[ScoreRecord], rule: Rule, score: Score) -> float:
    """One score of several references'; NaN where one of them has none."""
    values = [record.value(score.key) if record.within_budget else score.nothing for record in records]
    return math.nan if any(map(math.isnan, values)) else _COMBINED[rule](values)


def _result(
    rows: Sequence[Row],
    references: Sequence[str],
    budget: str,
    reference: str,
    drop_zeros: bool,
    rule: Rule,
    scores: Sequence[Score],
) -> _Result:
    answered = [counted for row in rows if (counted := _count(row, references, rule, scores)) is not None]
    kept = [counted for counted in answered if counted.scores["squish"] != 0] if drop_zeros else answered
    by_score = {
        score.key: _by_document((counted.document, counted.scores[score.key]) for counted in kept) for score in scores
    }
    # infinite where a short document's budget allows nothing
    lengths = [(counted.document, counted.length_used) for counted in answered if math.isfinite(counted.length_used)]
    standing = Standing(
        budget=budget,
        reference=reference,
        rank=0,
        contender=rows[0].contender,
        is_baseline=rows[0].is_baseline,
        scores={key: estimate(values.values()) for key, values in by_score.items()},
        ahead=None,
        resolved=None,
        documents=len(by_score["squish"]),
        coverage=len(kept) / len(rows),
        failed=len(rows) - len(answered),
        unparsable=_mean(counted.unparsable for counted in answered),
        over_budget=_mean(counted.over_budget for counted in answered),
        length_used=_mean(_by_document(lengths).values()),
        copied=_mean(_by_document((counted.document, counted.copied) for counted in answered).values()),
        is_attack=rows[0].is_attack,
    )
    return _Result(standing, by_score)


def _by_document(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean over samples; sorted by document, so that intervals do not depend on the order of rows."""
    samples: dict[str, list[float]] = {}
    for document, value in values:
        samples.setdefault(document, []).append(value)
    means = {document: _mean(samples[document]) for document in sorted(samples)}
    return {document: mean for document, mean in means.items() if not math.isnan(mean)}


def _rank(results: Sequence[_Result], rank_by: str) -> list[Standing]:
    def score(result: _Result) -> dict[str, float]:
        return result.scores[rank_by]

    # those without any score come last
    ranked = sorted(results, key=lambda result: -fmean(score(result).values()) if score(result) else math.inf)
    standings = [replace(result.standing, rank=rank) for rank, result in enumerate(ranked, 1)]
    for place, (better, next_one) in enumerate(pairwise(ranked)):
        mine, other = score(better), score(next_one)
        ahead, resolved = lead_over(mine, other)
        standings[place] = replace(standings[place], ahead=ahead, resolved=resolved)
    return standings


def _mean(values: Iterable[float]) -> float:
    """Of the values that are numbers; NaN where there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return fmean(numbers) if numbers else math.nan
