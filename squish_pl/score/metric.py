"""SQUISH as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from squish_pl.budget import Budget
from squish_pl.score.bootstrap import Estimate, estimate
from squish_pl.score.scorer import Scorer, ScoreRequest
from squish_pl.types import Document, Scores


def squish(
    scorer: Scorer,
    documents: Sequence[Document | str],
    summaries: Sequence[str | None],
    budget: Budget | str | None,
) -> list[Scores]:
    """Scores one summary for each document.

    Raises:
        ValueError: The numbers of documents and summaries differ.
    """
    if len(documents) != len(summaries):
        raise ValueError(f"expected a summary for each of the {len(documents)} documents, but got {len(summaries)}")
    return scorer.score_batch([ScoreRequest(d, [s], budget) for d, s in zip(documents, summaries, strict=True)])


class SquishMetric(Metric):
    """Mean SQUISH over documents.

    Every document counts the same, on however many processes it was scored: the single scores are gathered, so the
    mean is that of all documents together.

    Args:
        scorer: Shared, not copied, when the metric is cloned.
        budget: Cap on each summary's length.
        novel: Mean SQUISH-novel instead.

    Example:
        metric = SquishMetric(scorer, budget="10%")
        metric.update(documents, summaries)
        metric.compute()    # scalar float64 tensor
        metric.estimate()   # (mean, low, high), 95 %
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    values: list[Tensor]

    def __init__(self, scorer: Scorer, budget: Budget | str | None = "10%", novel: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scorer = scorer
        self.budget = None if budget is None else Budget.parse(budget)
        self.novel = novel
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.set_dtype(torch.float64)  # what a process without documents stands in with, must match the others

    def update(self, documents: Sequence[Document | str], summaries: Sequence[str | None]) -> None:
        """Adds documents with one summary each (None for one that could not be parsed)."""
        scores = squish(self.scorer, documents, summaries, self.budget)
        self._append(float((s.novel_score if self.novel else s.score)[0]) for s in scores)

    def add(self, values: Iterable[float]) -> None:
        """Adds documents whose scores are known already, one number each."""
        # torchmetrics does this around `update` alone: without it `compute` would give the mean it had before
        self._update_count, self._computed = self._update_count + 1, None
        self._append(values)

    def _append(self, values: Iterable[float]) -> None:
        self.values.append(torch.tensor(list(values), dtype=torch.float64, device=self.device))

    def compute(self) -> Tensor:
        """Mean score, a scalar float64 tensor; NaN before any update."""
        return self._all().mean()

    def estimate(self, confidence: float = 0.95) -> Estimate:
        """Mean and bootstrap interval over the documents this process knows of; over all inside `sync_context`."""
        return estimate(self._all(), confidence)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of `estimate` alone; NaN for fewer than two documents."""
        return self.estimate(confidence)[1:]

    def _all(self) -> Tensor:
        return dim_zero_cat(self.values) if len(self.values) else torch.zeros(0, dtype=torch.float64)
