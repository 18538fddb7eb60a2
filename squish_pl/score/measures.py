"""Measures: candidate scores, each a small function of what passes through the reference tell.

    d_t = nats that the summary saves on document token t    I = nats of the document alone    (see `Evidence`)

Those made of d_t are 0 for a summary that is missing, empty or over its budget. Those made of the summary's own
likelihood have no natural zero: such a summary gets NaN, and is left out of correlations.
"""

from __future__ import annotations

import abc
import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from squish_pl.errors import SquishError, repeated
from squish_pl.score.evidence import Evidence, Need
from squish_pl.score.novelty import copied_tokens, longest_copies
from squish_pl.types import Scores


class Measure(abc.ABC):
    """A candidate score.

    Attributes:
        name: As tables show it: the class's name in small letters, then its arguments. Two with the same name are
            the same measure.
        needs: What it is made of beside the savings, by `Evidence`'s names.
        has_zero: Whether a summary that is missing, empty or over its budget is worth 0; else it gets NaN.
    """

    needs: frozenset[Need] = frozenset()
    has_zero: bool = True

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @property
    def key(self) -> str:
        """The name as part of a dashboard's keys; see `measure_key`."""
        return measure_key(self.name)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    @abc.abstractmethod
    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        """[G] float64, the value of each summary.

        Args:
            evidence: A document and its summaries.
            batch: All that is measured together, this one among it; for measures that compare documents.
        """

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        return []


class Squish(Measure):
    """SQUISH: sum_t d_t / I."""

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return _share(evidence, row_sums(evidence.saved))


class Novel(Measure):
    """SQUISH-novel: sum of d_t / I over document tokens in no token n-gram shared with the summary."""

    def __init__(self, n: int = 4) -> None:
        self.n = n

    @property
    def name(self) -> str:
        return f"novel {self.n}"

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        nats = [
            saved[~copied_tokens(evidence.document_ids, ids, self.n)].sum()
            for saved, ids in zip(evidence.saved, evidence.summary_ids, strict=True)
        ]
        return _share(evidence, _stacked(nats))

    def problems(self) -> list[str]:
        return _at_least_one(n=self.n)


class Clipped(Measure):
    """sum_t clip(d_t, -nats, +nats) / I: no single token, such as a copied name, counts for many."""

    def __init__(self, nats: float = 1.0) -> None:
        self.nats = nats

    @property
    def name(self) -> str:
        return f"clipped {self.nats:g}"

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return _share(evidence, row_sums(evidence.saved.clamp(-self.nats, self.nats)))

    def problems(self) -> list[str]:
        return _above_zero(nats=self.nats)


class Positive(Measure):
    """sum_t max(d_t, 0) / I: what a summary makes harder to predict costs nothing."""

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return _share(evidence, row_sums(evidence.saved.clamp_min(0)))


class SmoothNovel(Measure):
    """sum_t d_t / (1 + m_t / n) / I, where m_t is the length of the longest run covering t that the summary shares.

    The discount of `Novel` without its cliff: a token that is nowhere in the summary counts whole, one in a shared
    n-gram half, one in a copied sentence next to nothing.
    """

    def __init__(self, n: float = 4.0) -> None:
        self.n = n

    @property
    def name(self) -> str:
        return f"smoothnovel {self.n:g}"

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        nats = [
            (saved / (1 + longest_copies(evidence.document_ids, ids).double() / self.n)).sum()
            for saved, ids in zip(evidence.saved, evidence.summary_ids, strict=True)
        ]
        return _share(evidence, _stacked(nats))

    def problems(self) -> list[str]:
        return _above_zero(n=self.n)


class Support(Measure):
    """L = mean over the summary's tokens of ln p(token | document, earlier ones), nats.

    BARTScore's source-to-summary direction (Yuan et al. 2021) under a language model that is not fine-tuned.
    """

    needs = frozenset[Need]({"support"})
    has_zero = False

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return _mean_log_probs(evidence, "support")


class SupportGain(Measure):
    """L minus the mean of ln p(token | start token, earlier ones): what the document adds, nats a summary token.

    The mean over tokens of their pointwise mutual information with the document.
    """

    needs = frozenset[Need]({"support", "support_alone"})
    has_zero = False

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        return _mean_log_probs(evidence, "support") - _mean_log_probs(evidence, "support_alone")


class Contrast(Measure):
    """SQUISH minus the share that the summary saves of another document: what any text of the kind saves is no merit.

    The other one is the next of the batch, or `ScoreRequest.other`.
    """

    needs = frozenset[Need]({"elsewhere"})

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        if evidence.elsewhere is None:
            raise _missing("elsewhere")
        here = _share(evidence, row_sums(evidence.saved))
        return torch.where(evidence.within_budget, here - evidence.elsewhere, torch.zeros_like(here))


class Weighted(Measure):
    """sum_i weight_i * measure_i; NaN where one of them is."""

    def __init__(self, parts: list[tuple[Measure, float]]) -> None:
        self.parts = parts

    @property
    def name(self) -> str:
        return " + ".join(f"{weight:g} {_bracketed(measure)}" for measure, weight in self.parts)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]  # of its parts
        return needs_of(measure for measure, _ in self.parts)

    @property
    def has_zero(self) -> bool:  # type: ignore[override]
        return all(measure.has_zero for measure, _ in self.parts)

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        total = torch.zeros(evidence.size, dtype=torch.float64)
        for measure, weight in self.parts:
            total = total + weight * measure(evidence, batch)
        return total

    def problems(self) -> list[str]:
        found = [] if self.parts else ["parts must name at least one measure with its weight"]
        for measure, weight in self.parts:
            found += [f"{measure.name}: {problem}" for problem in measure.problems()]
            if not math.isfinite(weight):
                found.append(f"the weight of {measure.name} must be a finite number, but is {weight}")
        return found


def default_measures() -> list[Measure]:
    """One of each, the score itself first."""
    return [Squish(), Novel(), SmoothNovel(), Clipped(), Positive(), Support(), SupportGain()]


def needs_of(measures: Iterable[Measure]) -> frozenset[Need]:
    """All that some measures are made of beside the savings."""
    return frozenset[Need]().union(*(measure.needs for measure in measures))


def measure_key(name: str) -> str:
    """A measure's name with underscores for spaces and signs: "0.5 squish + 0.5 novel 4" is 0.5_squish_0.5_novel_4."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def measured(scores: Scores, measure: Measure) -> Tensor:
    """[G] of a measure, out of what a scorer gave.

    Raises:
        SquishError: The scorer does not carry it.
    """
    if measure.name not in scores.measures:
        raise not_carried(measure, scores.measures)
    return scores.measures[measure.name]


def not_carried(measure: Measure, carried: Iterable[str]) -> SquishError:
    """For a measure whose values are wanted of a scorer that was not asked for it."""
    found = ", ".join(carried) or "none"
    return SquishError(f"the scorer does not carry the measure {measure.name!r} (it has {found}): pass it as measures=")


def measure_problems(measures: Sequence[Measure]) -> list[str]:
    """What is wrong with a list of measures, a sentence each."""
    found = [f"measures: {count} are {name!r}" for name, count in repeated(m.name for m in measures).items()]
    return found + [f"measures: {one.name}: {problem}" for one in measures for problem in one.problems()]


def row_sums(nats: Tensor) -> Tensor:
    """[G, T] -> [G], each row by itself: how many others there are must not change the last bit of a sum."""
    return _stacked([row.sum() for row in nats])


def _share(evidence: Evidence, nats: Tensor) -> Tensor:
    """Nats by those of the document; 0 for what does not count, and where there is nothing to save."""
    total = evidence.total
    return torch.where(evidence.within_budget & (total > 0), nats / (total or 1.0), torch.zeros_like(nats))


def _mean_log_probs(evidence: Evidence, of: Literal["support", "support_alone"]) -> Tensor:
    log_probs = evidence.support if of == "support" else evidence.support_alone
    if log_probs is None:
        raise _missing(of)
    means = _stacked([some.mean() for some in log_probs])  # NaN without tokens
    return torch.where(evidence.within_budget, means, torch.full_like(means, math.nan))


def _missing(need: Need) -> ValueError:
    return ValueError(f"the evidence has no {need}: ask for it with needs={{{need!r}}}")


def _stacked(numbers: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(numbers)) if numbers else torch.zeros(0, dtype=torch.float64)


def _bracketed(measure: Measure) -> str:
    return f"({measure.name})" if isinstance(measure, Weighted) else measure.name


def _at_least_one(**settings: int) -> list[str]:
    return [f"{name} must be at least 1, but is {value}" for name, value in settings.items() if value < 1]


def _above_zero(**settings: float) -> list[str]:
    return [
        f"{name} must be a finite number above 0, but is {value}"
        for name, value in settings.items()
        if not 0 < value < math.inf
    ]
