"""Validation: one summary for every document and budget, scored beside the copying baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from squish_pl.score.baselines import lead
from squish_pl.score.bootstrap import bootstrap_interval
from squish_pl.score.budget import Budget
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.types import Document, Finish, Rollouts


@dataclass(frozen=True, slots=True)
class Validated:
    """One document's summary under one budget, with its scores and the copying baseline's.

    Attributes:
        document_id: The document's id.
        opening: The document's first characters.
        budget: The budget as text.
        summary: None where the completion could not be parsed.
        finish: Name of the `Finish`.
        within_budget: Parsed, not empty, and no longer than allowed.
        score: SQUISH.
        novel_score: SQUISH-novel.
        lead_score: SQUISH of the document's own opening, cut to the budget.
        lead_novel_score: SQUISH-novel of the same.
    """

    document_id: str
    opening: str
    budget: str
    summary: str | None
    finish: str
    within_budget: bool
    score: float
    novel_score: float
    lead_score: float
    lead_novel_score: float


class Baseline:
    """Scores of the copying baseline, computed once for each document and budget of a run."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Budget], tuple[float, float]] = {}

    def scores(self, scorer: SquishScorer, asked: Sequence[tuple[Document, Budget]]) -> list[tuple[float, float]]:
        """(SQUISH, SQUISH-novel) of each document's opening."""
        new = [(d, b) for d, b in asked if (d.text, b) not in self._known]
        requests = [ScoreRequest(d, [lead(d.text, b, scorer.tokenizer)], b) for d, b in new]
        for (document, budget), scores in zip(new, scorer.score_batch(requests), strict=True):
            self._known[document.text, budget] = (float(scores.score[0]), float(scores.novel_score[0]))
        return [self._known[d.text, b] for d, b in asked]


def validate_groups(scorer: SquishScorer, groups: Sequence[Rollouts], baseline: Baseline) -> list[Validated]:
    """Scores groups of one summary each.

    Args:
        scorer: The benchmark's rule applies: what is unparsable, empty or over the budget scores 0.
        groups: From greedy (or seeded) sampling with a group size of 1.
        baseline: Remembers the copying baseline between validations.
    """
    asked = [(group.prompt.document, group.prompt.budget) for group in groups]
    requests = [ScoreRequest(d, group.summaries, b) for (d, b), group in zip(asked, groups, strict=True)]
    lines = []
    for group, scores, (lead_score, lead_novel) in zip(
        groups, scorer.score_batch(requests), baseline.scores(scorer, asked), strict=True
    ):
        document = group.prompt.document
        lines.append(
            Validated(
                document_id=document.id,
                opening=document.text[:200],
                budget=str(group.prompt.budget),
                summary=group.summaries[0],
                finish=Finish(int(group.finish[0])).name.lower(),
                within_budget=bool(scores.within_budget[0]) and bool(group.summaries[0]),
                score=float(scores.score[0]),
                novel_score=float(scores.novel_score[0]),
                lead_score=lead_score,
                lead_novel_score=lead_novel,
            )
        )
    return lines


def summarise(lines: Sequence[Validated]) -> dict[str, float]:
    """The figures of a validation, by their dashboard keys (see docs/metrics.md)."""
    if not lines:
        return {}
    figures: dict[str, float] = {}
    budgets = list(dict.fromkeys(line.budget for line in lines))
    for budget in budgets:
        chosen = [line for line in lines if line.budget == budget]
        for key, values in (
            ("squish", [line.score for line in chosen]),
            ("novel", [line.novel_score for line in chosen]),
            ("lead", [line.lead_score for line in chosen]),
            ("lead_novel", [line.lead_novel_score for line in chosen]),
        ):
            tensor = torch.tensor(values, dtype=torch.float64)
            figures[f"val/{key}@{budget}"] = float(tensor.mean())
            low, high = bootstrap_interval(tensor)
            figures[f"val/{key}_low@{budget}"], figures[f"val/{key}_high@{budget}"] = low, high
    for key in ("squish", "novel", "lead", "lead_novel"):
        figures[f"val/{key}"] = sum(figures[f"val/{key}@{budget}"] for budget in budgets) / len(budgets)
    figures["val/parsed"] = sum(line.summary is not None for line in lines) / len(lines)
    figures["val/within_budget"] = sum(line.within_budget for line in lines) / len(lines)
    return figures


def budgets_of(figures: Mapping[str, float]) -> list[str]:
    """The budgets that the figures of a validation are about, as text."""
    return [key.split("@", 1)[1] for key in figures if key.startswith("val/squish@")]


def gather_lines(lines: Sequence[Validated]) -> list[Validated]:
    """All processes' lines, without the repetitions that an even split over processes may add."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(lines)
    parts: list[list[Validated] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(lines))
    return list({(line.document_id, line.budget): line for part in parts for line in part or []}.values())
