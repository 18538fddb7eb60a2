"""Which scores can be bought: how often a good summary scores above one that is none. Pure functions of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from squish_pl.benchmark.leaderboard import Row, document_scores, reference_views
from squish_pl.benchmark.scores import SCORES, Score
from squish_pl.score.bootstrap import Estimate, estimate
from squish_pl.score.ensemble import Rule


class Resistance(NamedTuple):
    """How a score stands against an attack.

    Attributes:
        budget: As text.
        reference: Its name, or `leaderboard.combined_name`.
        score: Key of the score.
        attack: Name of the attack.
        share: Of documents on which the good summary scores above the attack, ties counted one half, with its
            bootstrap interval.
        documents: How many have both: a score without a zero passes over summaries that do not count.
    """

    budget: str
    reference: str
    score: str
    attack: str
    share: Estimate
    documents: int


@dataclass(frozen=True)
class ResistanceTable:
    """How all scores stand against all attacks.

    Attributes:
        good: Name of the contender whose summaries are the good ones.
        lines: By budget, reference and score in the order given, then by attack in the order of the run.
    """

    good: str
    lines: Sequence[Resistance]

    def groups(self) -> dict[tuple[str, str], list[Resistance]]:
        """The lines of each (budget, reference)."""
        return {key: list(own) for key, own in groupby(self.lines, key=lambda line: (line.budget, line.reference))}


def resistance(
    rows: Iterable[Row],
    references: Sequence[str],
    good: str,
    rule: Rule = "mean",
    scores: Sequence[Score] = SCORES,
) -> ResistanceTable | None:
    """Lays a contender's summaries beside each attack, document by document.

    What counts 0 on the leaderboard counts 0 here, such as a good summary over its budget; what failed is left out.

    Args:
        rows: One for each contender and task, with their scores.
        references: Names of the references, each looked at by itself; several are looked at combined too, as the
            leaderboard has them.
        good: Name of the contender whose summaries are good.
        rule: How several references' scores are combined.
        scores: The run's.

    Returns:
        The table; None without attacks.
    """
    by_budget: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row.is_attack or row.contender == good:
            by_budget.setdefault(row.task.budget, {}).setdefault(row.contender, []).append(row)
    lines = []
    for budget, of in by_budget.items():
        attacks = {name: own for name, own in of.items() if own[0].is_attack}
        for reference, names in reference_views(references, rule).items():
            for score in scores:
                known = document_scores(of.get(good, ()), names, rule, score)
                for attack, own in attacks.items():
                    wins = _wins(known, document_scores(own, names, rule, score))
                    lines.append(Resistance(budget, reference, score.key, attack, estimate(wins), len(wins)))
    return ResistanceTable(good, lines) if lines else None


def mean_shares(table: ResistanceTable) -> dict[str, dict[str, float | None]]:
    """Shares by score and attack, the mean over budgets; None where no document has both.

    They are those of the only reference, or of all combined, which come last.
    """
    found: dict[str, dict[str, list[float]]] = {}
    last = table.lines[-1].reference
    for line in table.lines:
        if line.reference != last:
            continue
        known = found.setdefault(line.score, {}).setdefault(line.attack, [])
        known += [line.share.mean] if line.documents else []
    return {
        score: {attack: fmean(shares) if shares else None for attack, shares in of.items()}
        for score, of in found.items()
    }


def mean_over_attacks(lines: Iterable[Resistance], score: str) -> float | None:
    """The mean of a score's shares; None where no document has both summaries of any attack."""
    shares = [line.share.mean for line in lines if line.score == score and line.documents]
    return fmean(shares) if shares else None


def _wins(good: Mapping[str, float], attack: Mapping[str, float]) -> list[float]:
    """For each document that both have, 1 where the good one is above, 0 where it is below, one half for a tie."""
    both = ((good[document], attack[document]) for document in good if document in attack)
    return [(mine > other) + 0.5 * (mine == other) for mine, other in both]
