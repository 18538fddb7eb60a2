"""Which scores can be bought: how often a good summary scores above one that is none. Pure functions of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from squish_pl.benchmark.leaderboard import SCORES, Row, document_scores
from squish_pl.score.bootstrap import Estimate, estimate


class Resistance(NamedTuple):
    """How a score stands against an attack.

    Attributes:
        budget: As text.
        reference: Its name.
        score: Key of the score.
        attack: Name of the attack.
        share: Of documents on which the good summary scores above the attack, ties counted one half, with its
            bootstrap interval.
        documents: How many have both.
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


def resistance(rows: Iterable[Row], references: Sequence[str], good: str) -> ResistanceTable | None:
    """Lays a contender's summaries beside each attack, document by document.

    What counts 0 on the leaderboard counts 0 here, such as a good summary over its budget; what failed is left out.

    Args:
        rows: One for each contender and task, with their scores.
        references: Names of the references, each looked at by itself.
        good: Name of the contender whose summaries are good.

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
        for reference in references:
            for score in SCORES:
                known = document_scores(of.get(good, ()), [reference], "mean", score)
                for attack, own in attacks.items():
                    wins = _wins(known, document_scores(own, [reference], "mean", score))
                    lines.append(Resistance(budget, reference, score, attack, estimate(wins), len(wins)))
    return ResistanceTable(good, lines) if lines else None


def mean_shares(lines: Iterable[Resistance]) -> dict[str, dict[str, float | None]]:
    """Shares by score and attack, the mean over budgets and references; None where no document has both."""
    found: dict[str, dict[str, list[float]]] = {}
    for line in lines:
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
