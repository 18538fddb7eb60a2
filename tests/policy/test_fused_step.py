"""A fused decoding step against the model's own layers."""

import pytest
import torch
from tiny import make_byte_tokenizer, make_tiny_model
from tiny_policies import make_policy, make_rows, shake
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from squish_pl.budget import Budget
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.fused_step import FusedStep
from squish_pl.policy.prefix_decoder import PlainStepDecoder, SharedPrefixDecoder
from squish_pl.policy.shared_prefix import SharedPrefixPasses
from squish_pl.types import Document, Prompt


def make_biased_model():
    torch.manual_seed(0)
    shape = make_tiny_model().config.to_dict()
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = Qwen2Config(**{name: shape[name] for name in names}, num_key_value_heads=2, initializer_range=0.2)
    model = Qwen2ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def make_backbone(architecture, targets="all-linear", dtype=torch.float64):
    model = make_biased_model() if architecture == "qwen2" else make_tiny_model(architecture, dtype)
    backbone = Backbone(model, make_byte_tokenizer(), LoraSettings(r=4, targets=targets))
    shake(backbone)
    return backbone


def decoded(backbone, kind):
    """Logits of steps after two prompts, a row leaving on the way."""
    SharedPrefixPasses(backbone.policy)
    prompts = [Prompt(Document(""), Budget.parse("1 char"), "", tuple(range(3, 3 + n))) for n in (20, 7)]
    with backbone.policy.generating() as model:
        decoder = kind(model, 3, 40)
        logits = [decoder.prefill(prompts), decoder.step(torch.tensor([5, 6, 7, 8, 9, 10]))]
        decoder.keep(torch.tensor([0, 1, 2, 5]))
        logits += [decoder.step(torch.tensor([i, 50, 60, 70])) for i in range(5)]
        return decoder, torch.cat(logits)


@pytest.mark.parametrize("targets", ["all-linear", "q_proj,v_proj,down_proj"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "qwen2"])
def test_a_fused_step_gives_the_logits_of_the_models_own_layers(architecture, targets):
    backbone = make_backbone(architecture, targets)
    _, expected = decoded(backbone, PlainStepDecoder)
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    for _ in range(2):  # the second time the weights lie together already
        decoder, got = decoded(backbone, SharedPrefixDecoder)
        assert decoder._step is not None
        tolerance = 1e-5 if architecture == "qwen2" else 1e-11
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))
    for name, parameter in backbone.model.named_parameters():
        assert torch.equal(parameter, before[name])
    shake(backbone, seed=9)  # a later rollout has the adapter of its time
    _, expected = decoded(backbone, PlainStepDecoder)
    torch.testing.assert_close(decoded(backbone, SharedPrefixDecoder)[1], expected, rtol=1e-5, atol=1e-4)


def test_with_the_adapter_off_or_without_one_the_base_writes():
    backbone = make_backbone("qwen3")
    with backbone.model.disable_adapter():
        _, off = decoded(backbone, SharedPrefixDecoder)
    plain = Backbone(make_tiny_model("qwen3", torch.float64), make_byte_tokenizer(), lora=None)
    torch.testing.assert_close(off, decoded(plain, SharedPrefixDecoder)[1], rtol=1e-11, atol=1e-11)


def test_what_it_does_not_know_is_left_to_the_model():
    from peft import LoraConfig, get_peft_model

    model = make_tiny_model()
    get_peft_model(model, LoraConfig(r=2, use_dora=True, target_modules="all-linear"))
    with pytest.raises(NotImplementedError, match="no plain LoRA"):
        FusedStep(model)
    shape = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
    other = Gemma2ForCausalLM(Gemma2Config(**shape, num_attention_heads=4, num_key_value_heads=2))
    with pytest.raises(NotImplementedError, match="no fused step for Gemma2ForCausalLM"):
        FusedStep(other)
    assert SharedPrefixDecoder(other, 2, 4)._step is None


def test_learning_goes_on_after_a_rollout_in_inference_mode():
    backbone = make_policy()
    rows = make_rows([(9, [3, 4])])

    def gradient():
        backbone.zero_grad()
        SharedPrefixPasses(backbone.policy).log_probs(rows)[0].sum().backward()
        return torch.cat([p.grad.flatten() for p in backbone.adapter_parameters()])

    before = gradient()
    with torch.inference_mode():  # as validation does
        decoded(backbone, SharedPrefixDecoder)
    assert torch.equal(gradient(), before)
