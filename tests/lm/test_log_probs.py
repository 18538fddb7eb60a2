"""Log-probs from hidden states in slices, against the whole matrix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from squish_pl.lm import log_probs
from squish_pl.lm.log_probs import (
    chosen_log_probs,
    log_probs_of_logits,
    predicting_slice,
    token_log_probs,
    wide_logits,
)

N, H, V = 23, 8, 50


def make_inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, nn.Linear, Tensor]:
    torch.manual_seed(0)
    head = nn.Linear(H, V, bias=True).to(dtype)
    return 3 * torch.randn(N, H, dtype=dtype), head, torch.randint(V, (N,))


def whole(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """By the formulas alone: z_t / T - ln sum exp(z / T), and -sum p ln p."""
    exponents = torch.exp(logits / temperature)
    p = exponents / exponents.sum(dim=1, keepdim=True)
    chosen = torch.stack([p[i, t].log() for i, t in enumerate(targets.tolist())])
    return chosen, -(p * p.log()).sum(dim=1)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
@pytest.mark.parametrize("slice_tokens", [1, 3, N, 1000])
def test_values_and_gradients(slice_tokens: int, temperature: float) -> None:
    hidden, head, targets = make_inputs()
    weights = torch.linspace(-1, 2, N, dtype=torch.float64)
    results = []
    for sliced in (True, False):
        h = hidden.clone().requires_grad_()
        head.zero_grad()
        if sliced:
            chosen, entropy = token_log_probs(h, head, targets, temperature, slice_tokens)
            assert not entropy.requires_grad
        else:
            chosen, entropy = whole(head(h), targets, temperature)
        (weights * chosen).sum().backward()
        assert h.grad is not None
        assert head.weight.grad is not None
        results.append((chosen.detach(), entropy.detach(), h.grad, head.weight.grad.clone(), head.bias.grad.clone()))
    for actual, expected in zip(*results, strict=True):
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gradients", [False, True])
def test_the_head_never_sees_more_than_a_slice(gradients: bool) -> None:
    hidden, head, targets = make_inputs()
    seen: list[int] = []

    def counting_head(h: Tensor) -> Tensor:
        seen.append(len(h))
        return head(h)

    with torch.set_grad_enabled(gradients):
        chosen, _ = token_log_probs(hidden.requires_grad_(gradients), counting_head, targets, slice_tokens=10)
    assert seen == [10, 10, 3]
    if gradients:
        chosen.sum().backward()
        assert sorted(seen) == [3, 3, 10, 10, 10, 10]  # each slice once again, and never the whole


def test_no_tokens() -> None:
    _, head, _ = make_inputs()
    chosen, entropy = token_log_probs(torch.zeros(0, H, dtype=torch.float64), head, torch.zeros(0, dtype=torch.long))
    assert chosen.shape == entropy.shape == (0,)
    assert chosen.dtype == torch.float64


def test_masked_logits() -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0, -math.inf], [1.0, 2.0, -math.inf, -math.inf]], dtype=torch.float64)
    chosen, entropy = log_probs_of_logits(logits, torch.tensor([2, 1]))
    p = 1 / (1 + math.e)
    assert chosen.tolist() == pytest.approx([-math.log(2), math.log(1 - p)], rel=1e-12)
    assert entropy.tolist() == pytest.approx([math.log(2), -p * math.log(p) - (1 - p) * math.log(1 - p)], rel=1e-12)


def test_uniform_and_certain_distributions() -> None:
    logits = torch.tensor([[5.0] * V, [1000.0] + [0.0] * (V - 1)], dtype=torch.float64)
    chosen, entropy = log_probs_of_logits(logits, torch.tensor([7, 0]))
    assert chosen.tolist() == pytest.approx([-math.log(V), 0.0], rel=1e-12)
    assert entropy.tolist() == pytest.approx([math.log(V), 0.0], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    hidden, head, targets = make_inputs()
    logits = head(hidden).detach().to(dtype)
    chosen, entropy = log_probs_of_logits(logits, targets, temperature=0.7)
    assert chosen.dtype == entropy.dtype == torch.float32
    expected = whole(logits.double(), targets, 0.7)
    torch.testing.assert_close(chosen.double(), expected[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(entropy.double(), expected[1], rtol=1e-5, atol=1e-6)


class TestWideLogits:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("columns", [1, 7, V, 1000])
    @pytest.mark.parametrize("shape", [(N, H), (3, 1, H), (0, H)])
    def test_half_precision_is_the_float32_product_of_the_same_numbers(
        self, shape: tuple[int, ...], columns: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_probs, "_CPU_COLUMNS", columns)
        torch.manual_seed(0)
        hidden, weight = (3 * torch.randn(shape)).to(dtype), torch.randn(V, H).to(dtype)
        expected = hidden.double() @ weight.double().T
        with torch.autocast("cpu", torch.bfloat16):  # which would round them again
            logits = wide_logits(hidden, weight)
        assert logits.dtype == torch.float32
        assert logits.shape == expected.shape
        torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)
        if len(hidden):
            assert ((hidden @ weight.T).double() - expected).abs().max() > 1e-3  # what is lost otherwise

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_other_types_are_left_as_they_are(self, dtype: torch.dtype) -> None:
        hidden, head, _ = make_inputs(dtype)
        assert torch.equal(wide_logits(hidden, head.weight), hidden @ head.weight.T)

    def test_learning_in_half_precision_rounds_no_logit(self) -> None:
        hidden, head, targets = make_inputs(torch.bfloat16)
        weight = head.weight.detach()
        got = token_log_probs(hidden.requires_grad_(), head, targets, 0.7, frozen_weight=weight)
        for value, right in zip(got, whole(hidden.double() @ weight.double().T, targets, 0.7), strict=True):
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), right, rtol=1e-5, atol=1e-5)


def test_predicting_slice() -> None:
    row = list("spprrr")  # a start token, two of a prefix, three to predict
    assert row[predicting_slice(3, 3)] == list("prr")
    assert list(range(10))[predicting_slice(1, 9)] == list(range(9))
    assert list(range(10))[predicting_slice(4, 0)] == []
    with pytest.raises(ValueError, match="at least one token"):
        predicting_slice(0, 3)


class TestFrozenHead:
    @pytest.mark.parametrize("slice_tokens", [1, 7, 100])
    @pytest.mark.parametrize("temperature", [1.0, 0.6])
    def test_gradient_made_forward_equals_the_whole_softmax(self, slice_tokens: int, temperature: float) -> None:
        torch.manual_seed(0)
        hidden = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(31, 8, dtype=torch.float64)
        targets = torch.randint(0, 31, (20,))
        grad = torch.randn(20, dtype=torch.float64)
        log_p = torch.log_softmax(hidden @ weight.T / temperature, -1)
        expected = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
        (expected_gradient,) = torch.autograd.grad(expected, hidden, grad)
        seen: list[int] = []

        def head(h: Tensor) -> Tensor:
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

    @pytest.mark.parametrize("columns", [1, 7, 31, 1000])
    @pytest.mark.parametrize("slice_tokens", [1, 7, 20, 512])
    @pytest.mark.parametrize("temperature", [1.0, 0.6])
    def test_gradient_of_the_entropies(
        self, slice_tokens: int, columns: int, temperature: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Alone and together with that of the log-probs, with the head frozen or not."""
        monkeypatch.setattr(log_probs, "_CPU_COLUMNS", columns)
        torch.manual_seed(0)
        hidden = 2 * torch.randn(20, 8, dtype=torch.float64)
        weight = torch.randn(31, 8, dtype=torch.float64)
        weight[5] = 5.0  # where it is likely, a token is sure
        hidden.requires_grad_()
        targets = torch.randint(0, 31, (20,))
        grads = torch.randn(2, 20, dtype=torch.float64)
        expected = whole(hidden @ weight.T, targets, temperature)
        gradients = torch.autograd.grad(expected, hidden, tuple(grads), retain_graph=True)
        gradients += torch.autograd.grad(expected[1], hidden, grads[1])
        assert min(g.abs().max() for g in gradients) > 0.1
        for frozen in (weight, None):
            pair = token_log_probs(hidden, lambda h: h @ weight.T, targets, temperature, slice_tokens, frozen, True)
            got = torch.autograd.grad(pair, hidden, tuple(grads), retain_graph=True)
            got += torch.autograd.grad(pair[1], hidden, grads[1])
            for value, right in zip((*pair, *got), (*expected, *gradients), strict=True):
                torch.testing.assert_close(value, right, rtol=1e-10, atol=1e-12)

    def test_a_masked_token_leaves_the_entropy_its_gradient(self) -> None:
        """A logit of -inf beside 0 and z: d entropy / dz = -p (1 - p) z."""
        z = torch.tensor([[1.2]], dtype=torch.float64, requires_grad=True)

        def head(h: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(h), h, torch.full_like(h, -math.inf)], dim=1)

        _, entropy = token_log_probs(z, head, torch.tensor([1]), entropy_gradient=True)
        (gradient,) = torch.autograd.grad(entropy.sum(), z)
        p = 1 / (1 + math.exp(-1.2))
        assert gradient.item() == pytest.approx(-p * (1 - p) * 1.2, rel=1e-12)

    def test_a_sure_token_keeps_its_gradient_in_bfloat16(self) -> None:
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


def one_by_one(logits: Tensor, targets: Tensor) -> Tensor:
    """z_t - ln sum exp z in float64, one row at a time."""
    values = []
    for z, t in zip(logits.double().tolist(), targets.tolist(), strict=True):
        top = max(z)
        values.append(z[t] - top - math.log(math.fsum(math.exp(x - top) for x in z)))
    return torch.tensor(values, dtype=torch.float64)


class TestChosenLogProbs:
    @pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
    @pytest.mark.parametrize("columns", [1, 7, 25, V, 1000])
    @pytest.mark.parametrize("slice_tokens", [1, 3, N, 1000])
    def test_values(
        self, slice_tokens: int, columns: int, dtype: torch.dtype, rtol: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_probs, "_CPU_COLUMNS", columns)
        hidden, head, targets = make_inputs(dtype)
        head.bias.data.zero_()
        targets[:2] = torch.tensor([0, V - 1])
        expected = one_by_one((hidden.double() @ head.weight.double().T).detach(), targets)
        usual, _ = token_log_probs(hidden, head, targets)
        for weight in (None, head.weight):
            chosen = chosen_log_probs(hidden, head, targets, slice_tokens, weight)
            assert chosen.dtype == dtype
            assert not chosen.requires_grad
            torch.testing.assert_close(chosen.double(), expected, rtol=rtol, atol=rtol)
            torch.testing.assert_close(chosen, usual.detach(), rtol=rtol, atol=rtol)

    def test_hidden_states_that_are_logits_are_left_as_they_are(self) -> None:
        logits = 5 * torch.randn(N, V, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        before, targets = logits.clone(), torch.arange(N)
        chosen = chosen_log_probs(logits, lambda h: h, targets, slice_tokens=4)
        torch.testing.assert_close(chosen, one_by_one(before, targets), rtol=1e-12, atol=1e-12)
        assert torch.equal(logits, before)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_logits_are_summed_in_float32(self, dtype: torch.dtype) -> None:
        hidden, head, targets = make_inputs(dtype)
        head.bias.data.zero_()
        exact = hidden.double() @ head.weight.detach().double().T  # which a plain linear head is not rounded from
        for weight, logits in ((None, head(hidden).detach()), (head.weight, exact)):
            expected = one_by_one(logits, targets)
            chosen = chosen_log_probs(hidden, head, targets, weight=weight)
            assert chosen.dtype == torch.float32
            torch.testing.assert_close(chosen.double(), expected, rtol=1e-6, atol=1e-6)

    def test_far_apart_and_masked_logits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither overflow nor NaN, not even in a tile in which all is masked."""
        monkeypatch.setattr(log_probs, "_CPU_COLUMNS", 2)
        logits = torch.tensor([[-math.inf, -math.inf, 0.0, 0.0], [-900.0, 0.0, 900.0, 900.0]], dtype=torch.float64)
        unit = torch.eye(2, dtype=torch.float64)
        masked = chosen_log_probs(logits, lambda h: h, torch.tensor([2, 1]))
        assert masked.tolist() == pytest.approx([-math.log(2), -900 - math.log(2)], rel=1e-12)
        tiled = chosen_log_probs(unit[1:], lambda h: h @ logits, torch.tensor([1]), weight=logits[[1, 1]].T)
        assert tiled.tolist() == pytest.approx([-900 - math.log(2)], rel=1e-12)

    @pytest.mark.parametrize("with_weight", [False, True])
    def test_no_tokens(self, with_weight: bool) -> None:
        _, head, _ = make_inputs()
        weight = head.weight if with_weight else None
        empty = chosen_log_probs(torch.zeros(0, H).double(), head, torch.zeros(0, dtype=torch.long), weight=weight)
        assert empty.shape == (0,)
        assert empty.dtype == torch.float64

    def test_the_head_never_sees_more_than_a_slice(self) -> None:
        hidden, head, targets = make_inputs()
        seen: list[int] = []

        def counting_head(h: Tensor) -> Tensor:
            seen.append(len(h))
            return head(h)

        chosen_log_probs(hidden, counting_head, targets, slice_tokens=10)
        assert seen == [10, 10, 3]
