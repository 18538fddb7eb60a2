"""Policy losses: one class each, chosen by `class_path` under `model.loss`.

A loss is a function of tensors. Whatever sums over tokens it names are added up over slices and passes, and logged as
means over tokens under `policy/<name>`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class LossParts(NamedTuple):
    """The loss of some tokens, and sums over them for the dashboard.

    Attributes:
        loss: Scalar with gradient.
        sums: Name -> scalar without gradient.
    """

    loss: Tensor
    sums: Mapping[str, Tensor]


class PolicyLoss(abc.ABC):
    """What a policy pass minimises."""

    @abc.abstractmethod
    def __call__(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, entropies: Tensor
    ) -> LossParts:
        """The loss over N generated tokens; the losses of a batch's slices add up to the batch's.

        Args:
            log_probs: [N] under the policy now, nats, with gradients.
            old_log_probs: [N] under the policy that sampled, nats.
            advantages: [N] each token's completion's advantage.
            weights: [N] share of each token in the loss: 1 / (generated tokens of its group * groups of the batch);
                with thinking, tokens of summaries and of thoughts count apart (see `Experience`).
            entropies: [N] of the distributions the tokens were drawn from, under the policy now, nats, no gradients.
        """

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        return []


class ClippedLoss(PolicyLoss):
    """The clipped policy gradient with asymmetric clip and token-level normalisation (DAPO: arXiv:2503.14476).

    ratio_t = exp(logp_t - old_logp_t)
    loss    = - sum_t min(ratio_t * A, clip(ratio_t, 1 - low, 1 + high) * A) * weight_t

    Its sums: `ratio`; `clipped_low` and `clipped_high`, the tokens held back by the lower clip (negative advantage) and
    by the upper one (positive advantage).

    Args:
        low: The ratio counts down to 1 - low.
        high: The ratio counts up to 1 + high; a higher one than `low` lets unlikely tokens grow and keeps entropy up.
    """

    def __init__(self, low: float = 0.2, high: float = 0.3) -> None:
        self.low, self.high = low, high

    def __call__(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, entropies: Tensor
    ) -> LossParts:
        ratio = torch.exp(log_probs - old_log_probs)
        clipped = ratio.clamp(1 - self.low, 1 + self.high)
        loss = -(torch.minimum(ratio * advantages, clipped * advantages) * weights).sum()
        with torch.no_grad():
            sums = {
                "ratio": ratio.sum(),
                "clipped_low": ((ratio < 1 - self.low) & (advantages < 0)).sum(),
                "clipped_high": ((ratio > 1 + self.high) & (advantages > 0)).sum(),
            }
        return LossParts(loss, sums)

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not 0 < self.low < 1:
            found.append(f"low must lie between 0 and 1, but is {self.low}")
        if not 0 < self.high < float("inf"):
            found.append(f"high must be a finite number above 0, but is {self.high}")
        return found
