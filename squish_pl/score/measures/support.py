"""Measures of how likely the summary is, behind its document."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from squish_pl.score.evidence import Evidence, LogProbs, Need
from squish_pl.score.measures.base import Measure, missing, stacked


class OfLikelihood(Measure):
    """Made of the summary's own likelihood, so without a zero."""

    needs = frozenset[Need]({"support"})
    has_zero = False

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        values = self.of(evidence)
        return torch.where(evidence.within_budget, values, torch.full_like(values, math.nan))

    @abc.abstractmethod
    def of(self, evidence: Evidence) -> Tensor:
        """[G] of the summaries; the value of one that does not count is not looked at."""


class Support(OfLikelihood):
    """L = mean over the summary's tokens of ln p(token | document, earlier ones), nats.

    BARTScore's source-to-summary direction (Yuan et al. 2021) under a language model that is not fine-tuned.
    """

    def of(self, evidence: Evidence) -> Tensor:
        return _means(log_probs(evidence, "support"))


class SupportGain(OfLikelihood):
    """L minus the mean of ln p(token | start token, earlier ones): what the document adds, nats a summary token.

    The mean over tokens of their pointwise mutual information with the document.
    """

    needs = frozenset[Need]({"support", "support_alone"})

    def of(self, evidence: Evidence) -> Tensor:
        return _means(log_probs(evidence, "support")) - _means(log_probs(evidence, "support_alone"))


class WeakestSupport(OfLikelihood):
    """Mean of ln p(token | document, earlier ones) over the summary's least likely tokens, nats.

    They are a `share` of its tokens, one at least. A summary is no better than what is least to be expected in it: a
    made-up name, a broken phrase.
    """

    def __init__(self, share: float = 0.2) -> None:
        self.share = share

    @property
    def name(self) -> str:
        return f"weakestsupport {self.share:g}"

    def of(self, evidence: Evidence) -> Tensor:
        return weakest(log_probs(evidence, "support"), self.share)

    def problems(self) -> list[str]:
        return [] if 0 < self.share <= 1 else [f"share must lie above 0 and be at most 1, but is {self.share}"]


class Ending(OfLikelihood):
    """ln p(the line ends behind the summary | document, summary), nats: low where a summary breaks off."""

    def of(self, evidence: Evidence) -> Tensor:
        return ending(evidence)


def log_probs(evidence: Evidence, of: Literal["support", "support_alone"]) -> LogProbs:
    """The summaries' likelihoods.

    Raises:
        ValueError: Nobody asked for them.
    """
    found = evidence.support if of == "support" else evidence.support_alone
    if found is None:
        raise missing(of)
    return found


def ending(evidence: Evidence) -> Tensor:
    """[G] ln p that each summary's line ends.

    Raises:
        ValueError: Nobody asked for the summaries' likelihoods.
    """
    if evidence.ending is None:
        raise missing("support")
    return evidence.ending


def weakest(log_probs: LogProbs, share: float) -> Tensor:
    """[G] mean of the least of each summary's [S] log-probs, a share of them, but one at least; NaN without tokens."""
    return stacked([own.sort().values[: max(1, math.ceil(len(own) * share))].mean() for own in log_probs])


def _means(log_probs: LogProbs) -> Tensor:
    return stacked([own.mean() for own in log_probs])  # NaN without tokens
