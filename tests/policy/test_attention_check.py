"""The operator's check: it passes what is right in every type, and refuses what whole passes would let through."""

import pytest
import torch
from tiny_policies import make_policy

from squish_pl.policy import prefix_attention
from squish_pl.policy.attention_check import TOLERANCES, operator_error, plain_attention
from squish_pl.policy.prefix_attention import flash_attention_backward, merge
from squish_pl.policy.shared_prefix import SharedPrefixPasses
from squish_pl.policy.trials import shared_prefix_problem

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operator_is_right_in_every_type(dtype):
    error = operator_error(4, 2, 16, dtype, torch.device("cpu"))
    assert 0 < error < TOLERANCES[dtype] / 2


def test_the_plain_way_by_hand():
    # one head of one number, keys of 0: every place takes the mean of what it may see
    q = torch.zeros(1, 1, 7, 1, dtype=torch.float64)
    v = torch.tensor([1.0, 2, 3, 10, 20, 40, 80], dtype=torch.float64).view(1, 1, 7, 1)
    # prompts [1, 2] and [3]; completions of the first (10, 20) and (40), of the second (80)
    out = plain_attention(q, q, v, [(2, [2, 1]), (1, [1])], 1.0).flatten()
    expected = [1, 3 / 2, 3, 13 / 3, 33 / 4, 43 / 3, 83 / 2]
    torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def own_log_sum_exp(one, other):
    return merge(one, other)[0], other[1]


def log_sum_exp_a_little_off(one, other):
    out, lse = merge(one, other)
    return out, lse + 0.02


def prompts_weighted_wrong(one, other):
    shifted = one[0], one[1] + 0.05
    return merge(shifted, other)[0], merge(one, other)[1]


def no_gradient_to_prompts(grad, q, k, v, out, lse, causal, scale):
    dq, dk, dv = flash_attention_backward(grad, q, k, v, out, lse, causal, scale)
    return (dq, dk, dv) if causal else (dq, torch.zeros_like(dk), torch.zeros_like(dv))


FAULTS = {
    "own log-sum-exp in backward": ("merge", own_log_sum_exp),
    "log-sum-exp a little off": ("merge", log_sum_exp_a_little_off),
    "prompts weighted wrong": ("merge", prompts_weighted_wrong),
    "no gradient to prompts": ("flash_attention_backward", no_gradient_to_prompts),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_refused(fault, dtype, monkeypatch):
    policy = make_policy(dtype=dtype).policy
    assert shared_prefix_problem(policy, SharedPrefixPasses(policy)) is None
    monkeypatch.setattr(prefix_attention, *FAULTS[fault])
    problem = shared_prefix_problem(policy, SharedPrefixPasses(policy))
    assert problem is not None
    assert problem.startswith("its attention differed by")
