import pytest
import torch

from squish_pl.lm.log_probs import token_log_probs


@pytest.mark.parametrize("slice_tokens", [1, 7, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_gradient_made_forward_equals_the_whole_softmax(slice_tokens, temperature):
    torch.manual_seed(0)
    hidden = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (20,))
    grad = torch.randn(20, dtype=torch.float64)
    log_p = torch.log_softmax(hidden @ weight.T / temperature, -1)
    expected = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    (expected_gradient,) = torch.autograd.grad(expected, hidden, grad)
    seen = []

    def head(h):
        seen.append(len(h))
        return h @ weight.T

    for frozen in (weight, None):
        log_probs, entropies = token_log_probs(hidden, head, targets, temperature, slice_tokens, frozen)
        (gradient,) = torch.autograd.grad(log_probs, hidden, grad)
        assert torch.allclose(log_probs, expected, rtol=1e-12)
        assert torch.allclose(entropies, -(log_p.exp() * log_p).sum(-1), rtol=1e-12)
        assert not entropies.requires_grad
        assert torch.allclose(gradient, expected_gradient, rtol=1e-11, atol=1e-13)
    assert max(seen) <= slice_tokens  # the frozen way needs no head at all; the other never more than a slice


def test_a_sure_token_keeps_its_gradient_in_bfloat16():
    torch.manual_seed(0)
    weight = torch.randn(64, 16, dtype=torch.float64)
    targets = torch.arange(20)
    hidden = weight[:20] / weight[:20].norm(dim=1, keepdim=True) ** 2 * 16  # p(target) near 1
    log_p = torch.log_softmax(hidden @ weight.T, -1)
    assert log_p.gather(1, targets.unsqueeze(1)).exp().median() > 0.98
    rounded = hidden.bfloat16().requires_grad_()
    (expected,) = torch.autograd.grad(
        torch.log_softmax((h := rounded.double()) @ weight.bfloat16().double().T, -1)
        .gather(1, targets.unsqueeze(1))
        .sum(),
        h,
    )
    log_probs, _ = token_log_probs(rounded, None, targets, frozen_weight=weight.bfloat16())
    (gradient,) = torch.autograd.grad(log_probs.sum(), rounded)
    assert (gradient.double() - expected).norm() / expected.norm() < 0.05
