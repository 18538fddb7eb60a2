import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squish_pl.rl.losses import clipped_policy_loss


def test_ratio_clip_and_normalisation_by_hand():
    """Two completions of one group, 2 + 3 tokens: every term computed by hand."""
    old = torch.log(torch.tensor([0.5, 0.5, 0.2, 0.2, 0.2], dtype=torch.float64))
    new = torch.log(torch.tensor([0.6, 0.9, 0.1, 0.2, 0.3], dtype=torch.float64)).requires_grad_()
    advantages = torch.tensor([1.0, 1.0, -2.0, -2.0, -2.0], dtype=torch.float64)
    weights = torch.full((5,), 1 / 5, dtype=torch.float64)
    result = clipped_policy_loss(new, old, advantages, weights, low=0.2, high=0.3)
    # ratios 1.2, 1.8, 0.5, 1.0, 1.5
    # A = 1:  min(1.2, 1.2) = 1.2;  min(1.8, 1.3) = 1.3 (held back)
    # A = -2: min(-1.0, -1.6) = -1.6 (held back);  -2.0;  min(-3.0, -2.6) = -3.0
    assert result.loss.item() == pytest.approx(-(1.2 + 1.3 - 1.6 - 2.0 - 3.0) / 5, rel=1e-12)
    assert result.ratio.item() == pytest.approx(6.0, rel=1e-12)
    assert (int(result.clipped_low), int(result.clipped_high)) == (1, 1)
    result.loss.backward()
    # d loss / d logp = -ratio * A / 5 where not held back, else 0
    assert new.grad.tolist() == pytest.approx([-1.2 / 5, 0.0, 0.0, 2.0 / 5, 3.0 / 5], abs=1e-12)


def test_first_pass_gradient_is_the_plain_policy_gradient():
    log_probs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([0.3, -0.7, 2.0], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    result = clipped_policy_loss(log_probs, log_probs.detach(), advantages, weights)
    result.loss.backward()
    assert torch.allclose(log_probs.grad, -advantages * weights, rtol=1e-12)
    assert int(result.clipped_low) == int(result.clipped_high) == 0


@given(
    st.lists(st.tuples(st.floats(-3, 0), st.floats(-3, 0), st.floats(-2, 2)), min_size=2, max_size=12),
    st.integers(1, 11),
)
def test_slicing_adds_up_and_matches_a_loop(tokens, cut):
    new, old, advantage = (torch.tensor(column, dtype=torch.float64) for column in zip(*tokens, strict=True))
    weights = torch.full_like(new, 1 / len(tokens))
    whole = clipped_policy_loss(new, old, advantage, weights).loss
    parts = sum(
        clipped_policy_loss(new[s], old[s], advantage[s], weights[s]).loss for s in (slice(0, cut), slice(cut, None))
    )
    by_hand = 0.0
    for n, o, a in tokens:
        ratio = math.exp(n - o)
        by_hand -= min(ratio * a, min(max(ratio, 0.8), 1.3) * a) / len(tokens)
    assert float(whole) == pytest.approx(by_hand, rel=1e-9, abs=1e-12)
    assert float(parts) == pytest.approx(by_hand, rel=1e-9, abs=1e-12)
