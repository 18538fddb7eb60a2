"""Group-relative advantages (GRPO: Shao et al. 2024, arXiv:2402.03300)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Normalisation = Literal["mean", "mean_std"]


def group_advantages(rewards: Tensor, normalisation: Normalisation = "mean", epsilon: float = 1e-6) -> Tensor:
    """How much better each completion is than its group.

    Args:
        rewards: [D, G].
        normalisation: "mean" subtracts the group's mean (Dr. GRPO, arXiv:2503.20783, leaves it at that);
            "mean_std" divides by the group's standard deviation too.
        epsilon: Added to the standard deviation.

    Returns:
        [D, G]; exactly 0 in a group whose rewards are all equal.
    """
    advantages = rewards - rewards.mean(dim=1, keepdim=True)
    if normalisation == "mean_std":
        advantages = advantages / (rewards.std(dim=1, keepdim=True) + epsilon)
    # rounding of the mean must not make a lesson out of equal rewards
    return advantages.masked_fill(zero_spread(rewards).unsqueeze(1), 0.0)


def zero_spread(rewards: Tensor) -> Tensor:
    """[D] bool, true for groups whose [D, G] rewards are all equal: they teach nothing."""
    return torch.eq(rewards, rewards[:, :1]).all(dim=1)
