"""One set of weights, two views: the policy learns, and the reference never sees the adapter."""

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model
from tiny_policies import shake

from squish_pl.errors import CheckpointError
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.tracker import peak_bytes
from squish_pl.policy.padded import PaddedPasses
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer
from squish_pl.types import Experience

DOCUMENT = "The lighthouse at Marrow Point will be sold in May, its keeper said on Tuesday."
SUMMARIES = ["Lighthouse sold in May.", "A keeper spoke."]


def make_backbone(architecture="qwen3", **kwargs):
    model = make_tiny_model(architecture, torch.float64)
    return Backbone(model, make_byte_tokenizer(), LoraSettings(r=4, alpha=8), **kwargs)


def rows():
    return [
        Experience(torch.arange(5, 20), torch.tensor([7, 8, 9]), torch.zeros(3), 0.0, 0.0),
        Experience(torch.arange(3, 12), torch.tensor([42]), torch.zeros(1), 0.0, 0.0),
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_reward_stays_when_the_adapter_moves_and_the_policy_does_not(architecture):
    backbone = make_backbone(architecture)
    scorer = SquishScorer(backbone.reference, backbone.tokenizer)
    plain = SquishScorer(FrozenModel(make_tiny_model(architecture, torch.float64)), backbone.tokenizer)
    before, _ = PaddedPasses(backbone.policy).log_probs(rows())
    scores_before = scorer.score(DOCUMENT, SUMMARIES)
    shake(backbone)
    fresh = SquishScorer(backbone.reference, backbone.tokenizer)  # nothing remembered from before
    scores_after = fresh.score(DOCUMENT, SUMMARIES)
    after, _ = PaddedPasses(backbone.policy).log_probs(rows())
    assert torch.equal(scores_before.score, scores_after.score)
    assert torch.equal(scores_before.token_saved, scores_after.token_saved)
    assert torch.allclose(scores_after.saved, plain.score(DOCUMENT, SUMMARIES).saved, rtol=1e-12)
    assert (before - after).abs().min() > 1e-3


def test_the_reference_records_no_gradient_and_leaves_the_adapter_on():
    backbone = make_backbone()
    hidden = backbone.reference.hidden(torch.tensor([[1, 2, 3]]))
    assert not hidden.requires_grad
    assert hidden.is_inference()
    log_probs, _ = PaddedPasses(backbone.policy).log_probs(rows())
    log_probs.sum().backward()
    assert all(p.grad is not None for p in backbone.adapter_parameters())


def test_the_reference_refuses_to_run_with_an_adapter_layer_on(monkeypatch):
    backbone = make_backbone()
    monkeypatch.setattr(peft.PeftModel, "disable_adapter", lambda self: torch.no_grad())  # does not disable anything
    with pytest.raises(RuntimeError, match="still on"):
        backbone.reference.hidden(torch.tensor([[1, 2, 3]]))


def test_only_the_adapter_learns():
    backbone = make_backbone()
    names = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert not any("lora_" in name for name, p in backbone.named_parameters() if not p.requires_grad)


def test_an_adapter_state_that_does_not_fit_is_refused():
    small = Backbone(make_tiny_model(), make_byte_tokenizer(), LoraSettings(r=2))
    large = Backbone(make_tiny_model(), make_byte_tokenizer(), LoraSettings(r=4))
    with pytest.raises(CheckpointError, match="does not fit"):
        large.load_adapter_state(small.adapter_state())


def test_half_precision_computes_in_half_and_learns_in_float32():
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone = Backbone(make_tiny_model("qwen3").to(dtype), make_byte_tokenizer(), LoraSettings(r=4, alpha=8))
        shake(backbone)
        log_probs, _ = PaddedPasses(backbone.policy).log_probs(rows())
        log_probs.sum().backward()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in backbone.adapter_parameters())
        gradient = torch.cat([p.grad.flatten() for p in backbone.adapter_parameters()])
        results.append((log_probs.detach(), gradient))
        with backbone.policy.generating() as generating:
            ids = torch.arange(5).unsqueeze(0)
            assert generating.get_decoder()(ids).last_hidden_state.dtype == dtype
            assert generating(ids).logits.dtype == torch.float32
    (log_probs, gradient), (log_probs_2, gradient_2) = results
    assert (log_probs - log_probs_2).abs().mean() < 0.1
    assert (gradient - gradient_2).norm() < 0.1 * gradient.norm()

    def held():
        return peak_bytes(lambda: backbone.policy.hidden(torch.arange(600).view(2, 300) % 256))

    ours = held()
    for layer in backbone.model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = True  # peft's own way: a float32 copy of every layer's input
    assert ours < 0.85 * held()
