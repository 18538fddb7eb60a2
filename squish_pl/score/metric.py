"""SQUISH as a torchmetrics metric."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from squish_pl.budget import Budget
from squish_pl.errors import SquishError
from squish_pl.score.bootstrap import Estimate, estimate
from squish_pl.score.measures.base import Measure, measured, not_carried
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

    In a `MetricCollection` every metric keeps its own scores: unlike torchmetrics' own, two of them never join into one
    compute group, however equal their scores are at first (their budgets, scorers or copying rules differ).

    Args:
        scorer: Shared, not copied, when the metric is cloned.
        budget: Cap on each summary's length.
        novel: Mean SQUISH-novel instead.
        measure: Mean of a measure instead, one of `scorer.measures`. Under one without a zero, a document whose summary
            is missing, empty or over the budget is left out.

    Raises:
        SquishError: The scorer does not carry the measure, or SQUISH-novel is wanted as well.

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
    owner: Tensor

    def __init__(
        self,
        scorer: Scorer,
        budget: Budget | str | None = "10%",
        novel: bool = False,
        measure: Measure | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if measure is not None and novel:
            raise SquishError(f"a metric is the mean of one score: take novel, or the measure {measure.name!r}")
        carried = [one.name for one in scorer.measures]
        if measure is not None and measure.name not in carried:
            raise not_carried(measure, carried)
        self.scorer = scorer
        self.budget = None if budget is None else Budget.parse(budget)
        self.novel, self.measure = novel, measure
        self.add_state("values", default=[], dist_reduce_fx="cat")
        # collections join metrics whose states are equal, and share states where they are told to: this one tells
        self.add_state("owner", default=_new_owner(), dist_reduce_fx=_first)
        self.set_dtype(torch.float64)  # what a process without documents stands in with, must match the others

    def update(self, documents: Sequence[Document | str], summaries: Sequence[str | None]) -> None:
        """Adds documents with one summary each (None for one that could not be parsed)."""
        values = [float(self._value(s)[0]) for s in squish(self.scorer, documents, summaries, self.budget)]
        has_zero = self.measure is None or self.measure.has_zero
        self._append(values if has_zero else [value for value in values if not math.isnan(value)])

    def _value(self, scores: Scores) -> Tensor:
        if self.measure is not None:
            return measured(scores, self.measure)
        return scores.novel_score if self.novel else scores.score

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
        self._check_owner()
        return dim_zero_cat(self.values) if len(self.values) else torch.zeros(0, dtype=torch.float64)

    # ---- whose scores the states hold ----

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers the scores of all processes; see `Metric.sync`."""
        self._check_owner()  # afterwards the first process's owner stands for all
        super().sync(*args, **kwargs)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Adds another metric's scores; see `Metric.merge_state`."""
        if isinstance(incoming_state, SquishMetric):
            incoming_state._check_owner()
        if isinstance(incoming_state, dict):
            incoming_state = {"owner": self.owner} | incoming_state
        super().merge_state(incoming_state)
        self.owner = self._mine.clone()

    def persistent(self, mode: bool = False) -> None:
        """Whether the scores are part of `state_dict`; whose they are never is."""
        super().persistent(mode)
        self._persistent["owner"] = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes a copy, or what was pickled, a metric of its own."""
        super().__setstate__(state)
        before, mine = self._mine, _new_owner().to(self._mine)
        self._defaults = self._defaults | {"owner": mine}
        for states in (self.__dict__, self._cache):
            if states and torch.equal(cast(Tensor, states["owner"]), before):
                states["owner"] = mine.clone()

    @property
    def _mine(self) -> Tensor:
        return cast(Tensor, self._defaults["owner"])

    def _check_owner(self) -> None:
        if not self._is_synced and not torch.equal(self.owner, self._mine):
            raise SquishError(
                "a SquishMetric cannot share its scores with another metric, which may have another budget, scorer or "
                "copying rule: leave it out of the collection's compute_groups"
            )


def _new_owner() -> Tensor:
    """[16] random bytes: so far apart that no tolerance takes two for one; of no seeded generator."""
    return torch.tensor(list(uuid.uuid4().bytes), dtype=torch.float64)


def _first(owners: Tensor) -> Tensor:
    """[N, 16] -> [16]."""
    return owners[0]
