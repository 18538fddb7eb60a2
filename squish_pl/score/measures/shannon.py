"""Shannon Score (Egan et al., 2021, arXiv:2103.10918)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from squish_pl.score.evidence import Evidence, Need
from squish_pl.score.measures.base import Measure, missing


class ShannonScore(Measure):
    """(B - H) / (B - F), nats of the document's sentences, each read by itself.

        B = behind the start token    H = behind the summary, without a frame    F = behind the sentence itself

    A sentence is not helped by those before it, so a summary's worth is not what the document has told already; and it
    is measured against the most that any text could tell, the sentence.
    """

    needs = frozenset[Need]({"sentences"})

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        if evidence.sentences is None:
            raise missing("sentences")
        return torch.where(evidence.within_budget, evidence.sentences, torch.zeros_like(evidence.sentences))
