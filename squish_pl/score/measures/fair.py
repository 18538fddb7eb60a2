"""The fair score: what a summary saves, where a reader would also take it for a summary."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from squish_pl.score.evidence import Evidence, Need
from squish_pl.score.measures.base import Measure, above_zero, share, stacked
from squish_pl.score.measures.support import ending, log_probs, weakest
from squish_pl.score.novelty import longest_copies

_FIFTH = 0.2


class Fair(Measure):
    """help / I * help / (help + harm * hurt) * exp(support * w) * e / (e + ending).

        help  = sum of max(d_t, 0) / (1 + m_t / run), m_t the longest run through t that the summary shares
        hurt  = sum of max(-d_t, 0)
        w     = mean ln p(token | document, earlier ones) of the summary's least likely fifth of tokens, nats
        e     = p(the line ends behind the summary | document, summary)

    Four things that a summary does, multiplied, so that none buys off another: it saves information, less where it
    only copies; what it says helps more than it misleads (Shannon Score's help and harm: Egan et al., 2022); nothing
    in it surprises who knows the document (as BARTScore: Yuan et al., 2021); and it does not break off. Between 0 and
    1. docs/meta.md tells by which rule form and constants were chosen, and what it does not see.

    Args:
        run: Tokens of a copied run at which a saving counts half.
        harm: How much more a misleading nat weighs than a helpful one.
        support: Weight of w.
        ending: Probability of the ending at which a summary counts half.
    """

    needs = frozenset[Need]({"support"})

    def __init__(self, run: float = 16.0, harm: float = 8.0, support: float = 0.3, ending: float = 0.075) -> None:
        self.run, self.harm, self.support, self.ending = run, harm, support, ending

    @property
    def name(self) -> str:
        settings, usual = vars(self), vars(Fair())
        changed = [f"{name} {value:g}" for name, value in settings.items() if value != usual[name]]
        return " ".join(["fair", *changed])

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        helps, hurts = [], []
        for saved, ids in zip(evidence.saved, evidence.summary_ids, strict=True):
            discount = 1 + longest_copies(evidence.document_ids, ids).double() / self.run
            helps.append((saved.clamp_min(0) / discount).sum())
            hurts.append(-saved.clamp_max(0).sum())
        help = stacked(helps)
        moved = help + self.harm * stacked(hurts)
        useful = share(evidence, help * help / torch.where(moved > 0, moved, torch.ones_like(moved)))
        likely = (self.support * weakest(log_probs(evidence, "support"), _FIFTH)).exp()
        ends = ending(evidence).exp()
        fair = useful * likely * ends / (ends + self.ending)
        return torch.where(useful > 0, fair, torch.zeros_like(fair))  # an empty summary has no likelihood

    def problems(self) -> list[str]:
        found = above_zero(run=self.run, ending=self.ending)
        return found + [
            f"{name} must be a finite number of at least 0, but is {value}"
            for name, value in (("harm", self.harm), ("support", self.support))
            if not 0 <= value < math.inf
        ]
