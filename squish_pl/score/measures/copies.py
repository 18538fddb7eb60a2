"""Measures of what a summary saves beyond what it copies."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from torch import Tensor

from squish_pl.score.evidence import Evidence
from squish_pl.score.measures.base import Measure, above_zero, at_least_one, share, stacked
from squish_pl.score.novelty import aligned_copies, copied_nats, copied_tokens, longest_copies


class BeyondCopies(Measure):
    """sum over document tokens of what is left of d_t / I, where copies are told apart."""

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        pairs = zip(evidence.saved, evidence.summary_ids, strict=True)
        return share(evidence, stacked([self.left(evidence, saved, ids).sum() for saved, ids in pairs]))

    @abc.abstractmethod
    def left(self, evidence: Evidence, saved: Tensor, summary_ids: Sequence[int]) -> Tensor:
        """The nats that count of a summary's savings [T], one for each token that counts."""


class Novel(BeyondCopies):
    """SQUISH-novel: sum of d_t / I over document tokens in no token n-gram shared with the summary."""

    def __init__(self, n: int = 4) -> None:
        self.n = n

    @property
    def name(self) -> str:
        return f"novel {self.n}"

    def left(self, evidence: Evidence, saved: Tensor, summary_ids: Sequence[int]) -> Tensor:
        return saved[~copied_tokens(evidence.document_ids, summary_ids, self.n)]

    def problems(self) -> list[str]:
        return at_least_one(n=self.n)


class SmoothNovel(BeyondCopies):
    """sum_t d_t / (1 + m_t / n) / I, where m_t is the length of the longest run covering t that the summary shares.

    The discount of `Novel` without its cliff: a token that is nowhere in the summary counts whole, one in a shared
    n-gram half, one in a copied sentence next to nothing.
    """

    def __init__(self, n: float = 4.0) -> None:
        self.n = n

    @property
    def name(self) -> str:
        return f"smoothnovel {self.n:g}"

    def left(self, evidence: Evidence, saved: Tensor, summary_ids: Sequence[int]) -> Tensor:
        return saved / (1 + longest_copies(evidence.document_ids, summary_ids).double() / self.n)

    def problems(self) -> list[str]:
        return above_zero(n=self.n)


class AlignedNovel(BeyondCopies):
    """sum_t d_t / (1 + m_t / n) / I, where m_t is the best alignment of the summary through t (see `aligned_copies`).

    `SmoothNovel` that also sees copies with words swapped, dropped or changed.
    """

    def __init__(self, n: float = 8.0) -> None:
        self.n = n

    @property
    def name(self) -> str:
        return f"alignednovel {self.n:g}"

    def left(self, evidence: Evidence, saved: Tensor, summary_ids: Sequence[int]) -> Tensor:
        return saved / (1 + aligned_copies(evidence.document_ids, summary_ids) / self.n)

    def problems(self) -> list[str]:
        return above_zero(n=self.n)


class BeyondCopying(BeyondCopies):
    """sum_t (d_t - c_t) / I: what a summary saves beyond what copying out of it would explain, c_t.

    See `copied_nats`; `copying` is the weight that its reader gives to copying.
    """

    def __init__(self, copying: float = 0.5) -> None:
        self.copying = copying

    @property
    def name(self) -> str:
        return f"beyondcopying {self.copying:g}"

    def left(self, evidence: Evidence, saved: Tensor, summary_ids: Sequence[int]) -> Tensor:
        return saved - copied_nats(evidence.document_ids, evidence.information, summary_ids, self.copying)

    def problems(self) -> list[str]:
        return [] if 0 < self.copying < 1 else [f"copying must lie between 0 and 1, but is {self.copying}"]
