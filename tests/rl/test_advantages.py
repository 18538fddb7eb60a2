"""Advantages by hand."""

import pytest
import torch

from squish_pl.rl.advantages import group_advantages, zero_spread


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.1, 0.1, 0.1]], dtype=torch.float64)
    assert group_advantages(rewards, "mean").tolist() == [[-2.0, -1.0, 3.0], [0.0, 0.0, 0.0]]
    scaled = group_advantages(rewards, "mean_std", epsilon=0.0)
    assert scaled[0].tolist() == pytest.approx([-2 / 7**0.5, -1 / 7**0.5, 3 / 7**0.5], rel=1e-12)
    assert scaled[1].tolist() == [0.0, 0.0, 0.0]
    assert zero_spread(rewards).tolist() == [False, True]


def test_equal_rewards_give_exactly_zero_whatever_the_mean_rounds_to():
    rewards = torch.full((1, 7), 0.1, dtype=torch.float32)
    assert group_advantages(rewards, "mean_std").abs().max() == 0
