"""Which way a model runs, and whether its layers are compiled: found out by trials."""

import logging

import pytest
import torch
from tiny import make_byte_tokenizer, make_tiny_model
from tiny_policies import make_policy
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from squish_pl.errors import ModelError
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.padded import PaddedDecoder, PaddedPasses
from squish_pl.policy.prefix_decoder import SharedPrefixDecoder
from squish_pl.policy.shared_prefix import ATTENTION, SharedPrefixPasses
from squish_pl.policy.trials import (
    choose_compiling,
    choose_passes,
    decoding_problem,
    shared_prefix_problem,
    take_passes,
)


def test_models_with_other_attention_run_the_padded_way(caplog):
    shape = {
        "vocab_size": 258, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    windowed = MistralForCausalLM(MistralConfig(**shape, sliding_window=64))
    capped = Gemma2ForCausalLM(Gemma2Config(**shape, layer_types=["full_attention"] * 2, query_pre_attn_scalar=8))
    for model, words in ((windowed, "sliding window"), (capped, "")):
        backbone = Backbone(model.eval(), make_byte_tokenizer(), LoraSettings(r=2))
        with caplog.at_level(logging.WARNING):
            choose_passes(backbone.policy, "auto")
        assert backbone.policy.passes.name == "padded"
        assert words in caplog.records[-1].getMessage()
        with pytest.raises(ModelError, match=r"model\.memory\.passes is 'shared_prefix', but this model cannot"):
            choose_passes(backbone.policy, "shared_prefix")


def test_plain_models_share_their_prefix():
    policy = make_policy(dtype=torch.float32).policy
    choose_passes(policy, "padded")
    assert policy.passes.name == "padded"
    choose_passes(policy, "auto")
    assert policy.passes.name == "shared_prefix"
    choose_passes(policy, "padded")
    choose_passes(policy, "shared_prefix")
    assert policy.passes.name == "shared_prefix"


def test_the_models_attention_is_told_apart_from_its_usual_one():
    backbone = make_policy(dtype=torch.float32)
    choose_passes(backbone.policy, "auto")
    assert backbone.language_model.model.config._attn_implementation == ATTENTION


class OneCompletion(SharedPrefixPasses):
    """Lets a group's completions see one another, as if they were a single one."""

    def packed_hidden(self, token_ids, positions, groups):
        return super().packed_hidden(token_ids, positions, [(p, [sum(n)]) for p, n in groups])


class SteepGradient(SharedPrefixPasses):
    """Right log-probs with a tenth too much gradient."""

    def log_probs(self, rows, temperature=1.0):
        log_probs, entropies = super().log_probs(rows, temperature)
        return log_probs.detach() + 1.1 * (log_probs - log_probs.detach()), entropies


class Forgetful(PaddedDecoder):
    """Loses track of where a row stands."""

    def step(self, tokens):
        self._position = self._position * 0
        return super().step(tokens)


class BadDecoding(PaddedPasses):
    decoder = Forgetful


def test_a_broken_way_is_found_out():
    policy = make_policy(dtype=torch.float32).policy
    assert shared_prefix_problem(policy, SharedPrefixPasses(policy)) is None
    assert "differed" in shared_prefix_problem(policy, OneCompletion(policy))
    assert shared_prefix_problem(policy, SteepGradient(policy)) == "a trial's gradient differed by 10%"


def test_trials_run_without_dropout():
    backbone = Backbone(make_tiny_model(), make_byte_tokenizer(), LoraSettings(r=2, dropout=0.5))
    assert shared_prefix_problem(backbone.policy, SharedPrefixPasses(backbone.policy)) is None
    layers = [module for module in backbone.model.modules() if isinstance(module, torch.nn.Dropout)]
    assert {layer.p for layer in layers} == {0.5}


def test_a_decoder_that_writes_nonsense_is_found_out():
    policy = make_policy(dtype=torch.float32).policy
    for passes in (PaddedPasses(policy), SharedPrefixPasses(policy)):
        policy.passes = passes
        assert decoding_problem(policy) is None
    policy.passes = BadDecoding(policy)
    assert decoding_problem(policy).startswith("a trial differed by")


def test_a_model_that_only_writes_is_tried_too():
    policy = Backbone(make_tiny_model(), make_byte_tokenizer(), lora=None).policy
    assert policy.parameters() == []
    choose_passes(policy, "auto")
    assert policy.passes.name == "shared_prefix"
    assert decoding_problem(policy) is None


@pytest.mark.parametrize(("name", "kind"), [("padded", PaddedPasses), ("shared_prefix", SharedPrefixPasses)])
def test_a_settled_way_is_taken_without_a_trial(name, kind):
    backbone = make_policy()
    passed = []
    handle = backbone.language_model.decoder.register_forward_hook(lambda *_: passed.append(1))
    take_passes(backbone.policy, name)
    handle.remove()
    assert type(backbone.policy.passes) is kind
    assert passed == []


def test_layers_that_do_not_compile_run_as_they_are(monkeypatch, caplog):
    backbone = make_policy(dtype=torch.float32)
    choose_passes(backbone.policy, "shared_prefix")
    choose_compiling(backbone, "auto")
    assert not backbone.compiled  # on a CPU

    def broken(self, *args, **kwargs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    with pytest.raises(ModelError, match=r"model\.memory\.compile is true.*no compiler here"):
        choose_compiling(backbone, True)
    monkeypatch.setattr(type(backbone), "device", torch.device("cuda"))
    with caplog.at_level(logging.WARNING):
        choose_compiling(backbone, "auto")
    assert "layers are not compiled: a trial failed" in caplog.text
    assert not backbone.compiled


@pytest.mark.parametrize("fault", ["checkpointed", "reference"])
def test_compiled_layers_are_tried_in_every_way_they_run_in(fault, monkeypatch):
    backbone = make_policy(dtype=torch.float32, checkpointed=1)
    choose_passes(backbone.policy, "shared_prefix")
    layer = backbone.language_model.decoder.layers[0]
    forward = layer.forward

    def failing(*args, **kwargs):
        where = {"checkpointed": layer.gradient_checkpointing, "reference": torch.is_inference_mode_enabled()}
        if where[fault]:
            raise RuntimeError(f"does not compile: {fault}")
        return forward(*args, **kwargs)

    def compile_layers(self, compiled=True):
        self.compiled = compiled
        layer.forward = failing if compiled else forward

    monkeypatch.setattr(Backbone, "compile_layers", compile_layers)
    with pytest.raises(ModelError, match=f"does not compile: {fault}"):
        choose_compiling(backbone, True)
    assert not backbone.compiled
    assert backbone.checkpointed_layers == 1


class ForgetfulSteps(SharedPrefixDecoder):
    """Loses track of where a row stands in fused steps alone."""

    def step(self, tokens):
        if self._step is not None:
            self._position = self._position * 0
        return super().step(tokens)


def test_a_fused_step_that_is_wrong_leaves_its_place_to_the_models_own_layers(monkeypatch, caplog):
    backbone = make_policy(dtype=torch.float32)
    monkeypatch.setattr(SharedPrefixPasses, "decoder", ForgetfulSteps)
    with caplog.at_level(logging.WARNING):
        choose_passes(backbone.policy, "auto")
    assert backbone.policy.passes.name == "shared_prefix_plain_steps"
    assert "a decoding step runs through the model's own layers" in caplog.text
    take_passes(backbone.policy, "shared_prefix_plain_steps")
    assert backbone.policy.passes.name == "shared_prefix_plain_steps"
    assert decoding_problem(backbone.policy) is None
