"""The clipped loss, token by token."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squish_pl.rl.losses import ClippedLoss

NO_ENTROPIES = torch.zeros(0)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def test_ratio_clip_and_normalisation_by_hand():
    """Two completions of one group, 2 + 3 tokens: every term computed by hand."""
    old = torch.log(double([0.5, 0.5, 0.2, 0.2, 0.2]))
    new = torch.log(double([0.6, 0.9, 0.1, 0.2, 0.3])).requires_grad_()
    advantages = double([1.0, 1.0, -2.0, -2.0, -2.0])
    weights = torch.full((5,), 1 / 5, dtype=torch.float64)
    loss, sums = ClippedLoss(low=0.2, high=0.3)(new, old, advantages, weights, NO_ENTROPIES)
    # ratios 1.2, 1.8, 0.5, 1.0, 1.5
    # A = 1:  min(1.2, 1.2) = 1.2;  min(1.8, 1.3) = 1.3 (held back)
    # A = -2: min(-1.0, -1.6) = -1.6 (held back);  -2.0;  min(-3.0, -2.6) = -3.0
    assert loss.item() == pytest.approx(-(1.2 + 1.3 - 1.6 - 2.0 - 3.0) / 5, rel=1e-12)
    assert list(sums) == ["ratio", "clipped_low", "clipped_high"]
    assert sums["ratio"].item() == pytest.approx(6.0, rel=1e-12)
    assert (int(sums["clipped_low"]), int(sums["clipped_high"])) == (1, 1)
    assert not any(value.requires_grad for value in sums.values())
    loss.backward()
    # d loss / d logp = -ratio * A / 5 where not held back, else 0
    assert new.grad.tolist() == pytest.approx([-1.2 / 5, 0.0, 0.0, 2.0 / 5, 3.0 / 5], abs=1e-12)


def test_only_the_side_that_an_advantage_pulls_to_is_held_back():
    """Ratio 1.8 with A < 0 and 0.5 with A > 0 count whole, and are not counted as clipped."""
    new, old = torch.log(double([0.9, 0.25])), torch.log(double([0.5, 0.5]))
    loss, sums = ClippedLoss(0.2, 0.3)(new, old, double([-1.0, 1.0]), double([1.0, 1.0]), NO_ENTROPIES)
    assert loss.item() == pytest.approx(1.8 - 0.5, rel=1e-12)
    assert int(sums["clipped_low"]) == int(sums["clipped_high"]) == 0


def test_first_pass_gradient_is_the_plain_policy_gradient():
    log_probs = double([-1.0, -2.0, -0.5]).requires_grad_()
    advantages, weights = double([0.3, -0.7, 2.0]), double([0.5, 0.25, 0.25])
    loss, sums = ClippedLoss()(log_probs, log_probs.detach(), advantages, weights, NO_ENTROPIES)
    loss.backward()
    assert torch.allclose(log_probs.grad, -advantages * weights, rtol=1e-12)
    assert int(sums["clipped_low"]) == int(sums["clipped_high"]) == 0


@given(
    st.lists(st.tuples(st.floats(-3, 0), st.floats(-3, 0), st.floats(-2, 2)), min_size=2, max_size=12),
    st.integers(1, 11),
)
def test_slicing_adds_up_and_matches_a_loop(tokens, cut):
    new, old, advantage = (double(column) for column in zip(*tokens, strict=True))
    weights, loss = torch.full_like(new, 1 / len(tokens)), ClippedLoss()

    def of(part):
        return float(loss(new[part], old[part], advantage[part], weights[part], NO_ENTROPIES).loss)

    by_hand = 0.0
    for n, o, a in tokens:
        ratio = math.exp(n - o)
        by_hand -= min(ratio * a, min(max(ratio, 0.8), 1.3) * a) / len(tokens)
    assert of(slice(None)) == pytest.approx(by_hand, rel=1e-9, abs=1e-12)
    assert of(slice(0, cut)) + of(slice(cut, None)) == pytest.approx(by_hand, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(2.0, 0.3, "low"), (0.0, 0.3, "low"), (0.2, 0.0, "high"), (0.2, math.inf, "high"), (0.2, math.nan, "high")],
)
def test_clips_that_are_none(low, high, words):
    (problem,) = ClippedLoss(low, high).problems()
    assert problem.startswith(f"{words} must")
    assert ClippedLoss().problems() == []
