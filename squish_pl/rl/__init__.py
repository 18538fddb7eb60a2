"""Learning as pure functions of tensors: rewards, advantages, experience, loss."""

from squish_pl.rl.advantages import Normalisation, group_advantages, zero_spread
from squish_pl.rl.experience import make_experience, micro_batches
from squish_pl.rl.loss import ClipSettings, PolicyLoss, clipped_policy_loss
from squish_pl.rl.rewards import RewardSettings, group_rewards

__all__ = [
    "ClipSettings",
    "Normalisation",
    "PolicyLoss",
    "RewardSettings",
    "clipped_policy_loss",
    "group_advantages",
    "group_rewards",
    "make_experience",
    "micro_batches",
    "zero_spread",
]
