"""Measures of what a summary saves on its document's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from squish_pl.score.evidence import Evidence, Need
from squish_pl.score.measures.base import Measure, above_zero, missing, row_sums, share


class Squish(Measure):
    """SQUISH: sum_t d_t / I."""

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return share(evidence, row_sums(evidence.saved))


class Clipped(Measure):
    """sum_t clip(d_t, -nats, +nats) / I: no single token, such as a copied name, counts for many."""

    def __init__(self, nats: float = 1.0) -> None:
        self.nats = nats

    @property
    def name(self) -> str:
        return f"clipped {self.nats:g}"

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return share(evidence, row_sums(evidence.saved.clamp(-self.nats, self.nats)))

    def problems(self) -> list[str]:
        return above_zero(nats=self.nats)


class Positive(Measure):
    """sum_t max(d_t, 0) / I: what a summary makes harder to predict costs nothing."""

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return share(evidence, row_sums(evidence.saved.clamp_min(0)))


class Harm(Measure):
    """sum_t max(-d_t, 0) / I: what a summary makes harder to predict; `Positive` minus this is SQUISH."""

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return share(evidence, row_sums((-evidence.saved).clamp_min(0)))


class Contrast(Measure):
    """SQUISH minus the share that the summary saves of another document: what any text of the kind saves is no merit.

    The other one is the next of the batch, or `ScoreRequest.other`.
    """

    needs = frozenset[Need]({"elsewhere"})

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        if evidence.elsewhere is None:
            raise missing("elsewhere")
        here = share(evidence, row_sums(evidence.saved))
        return torch.where(evidence.within_budget, here - evidence.elsewhere, torch.zeros_like(here))
