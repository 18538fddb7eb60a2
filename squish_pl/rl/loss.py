"""The clipped policy gradient with asymmetric clip and token-level normalisation (DAPO: arXiv:2503.14476).

ratio_t = exp(logp_t - old_logp_t)
loss    = - sum_t min(ratio_t * A, clip(ratio_t, 1 - low, 1 + high) * A) * weight_t
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipSettings:
    """How far the policy may move on one rollout's lesson.

    Attributes:
        low: The ratio counts down to 1 - low.
        high: The ratio counts up to 1 + high; a higher one than `low` lets unlikely tokens grow and keeps entropy up.
    """

    low: float = 0.2
    high: float = 0.3

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not 0 < self.low < 1:
            found.append(f"clip.low must lie between 0 and 1, but is {self.low}")
        if self.high <= 0:
            found.append(f"clip.high must be above 0, but is {self.high}")
        return found


class PolicyLoss(NamedTuple):
    """The loss of some tokens, and sums over them for the dashboard (no gradients).

    Attributes:
        loss: Scalar with gradient.
        ratio: Sum of the ratios.
        clipped_low: Number of tokens held back by the lower clip (negative advantage).
        clipped_high: Number of tokens held back by the upper clip (positive advantage).
    """

    loss: Tensor
    ratio: Tensor
    clipped_low: Tensor
    clipped_high: Tensor


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, low: float = 0.2, high: float = 0.3
) -> PolicyLoss:
    """The loss over N generated tokens.

    Args:
        log_probs: [N] under the policy now, nats, with gradients.
        old_log_probs: [N] under the policy that sampled, nats.
        advantages: [N] each token's completion's advantage.
        weights: [N] share of each token in the loss: 1 / (generated tokens of its group * groups of the batch), so
            that the sum over any slicing of a batch is the same.
        low: Lower clip.
        high: Upper clip.
    """
    ratio = torch.exp(log_probs - old_log_probs)
    unclipped = ratio * advantages
    clipped = ratio.clamp(1 - low, 1 + high) * advantages
    loss = -(torch.minimum(unclipped, clipped) * weights).sum()
    with torch.no_grad():
        return PolicyLoss(
            loss=loss,
            ratio=ratio.sum(),
            clipped_low=((ratio < 1 - low) & (advantages < 0)).sum(),
            clipped_high=((ratio > 1 + high) & (advantages > 0)).sum(),
        )
