"""References of many architectures: those with a plain head, and those that do more to their logits."""

from __future__ import annotations

import logging
import random
import warnings
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from score_brute_force import random_summaries, random_text, slow_squish
from tiny import make_byte_tokenizer
from transformers import PreTrainedModel

from squish_pl.lm.language_model import LanguageModel
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer

SPECIAL: dict[str, Any] = {"vocab_size": 258, "pad_token_id": 0, "bos_token_id": 256, "eos_token_id": 257}
SHAPE: dict[str, Any] = {
    **SPECIAL,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
GPT2: dict[str, Any] = {**SPECIAL, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
SIMPLE = {k: v for k, v in SHAPE.items() if k not in ("intermediate_size", "num_key_value_heads")}

PLAIN: dict[str, dict[str, Any]] = {
    "GPT2": GPT2,
    "Bloom": {**SPECIAL, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "GPTNeoX": {**SIMPLE, "intermediate_size": 64},
    "OPT": {**SIMPLE, "ffn_dim": 64, "word_embed_proj_dim": 16, "init_std": 0.2},
    "Phi": SHAPE,
    "Olmo2": SHAPE,
    "Gemma3": {**SHAPE, "head_dim": 8, "sliding_window": 16},
    "Granite": {**SHAPE, "logits_scaling": 1.0},
}
TRANSFORMING: dict[str, dict[str, Any]] = {
    "Granite": {**SHAPE, "logits_scaling": 8.0},
    "Cohere": {**SHAPE, "logit_scale": 0.25},
    "Gemma2": {**SHAPE, "head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 16},
}


def make_model(name: str, settings: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(3)
    config = getattr(transformers, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")(**settings)
    cls = getattr(transformers, f"{name}LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")
    return cls(config).double().eval()


@cache
def texts() -> tuple[str, list[str]]:
    draw = random.Random(4)
    document = random_text(draw, 12)
    return document, random_summaries(draw, document, 4)


def assert_scores_equal_slow(model: PreTrainedModel) -> None:
    document, summaries = texts()
    scores = SquishScorer(FrozenModel(model), make_byte_tokenizer()).score(document, summaries)
    expected = [slow_squish(model, document, summary) for summary in summaries]
    assert max(abs(slow.score) for slow in expected) > 1e-5
    assert scores.information == pytest.approx(expected[0].information, rel=1e-9, abs=0)
    for actual, name in ((scores.score, "score"), (scores.saved, "saved"), (scores.novel_score, "novel_score")):
        wanted = torch.tensor([getattr(slow, name) for slow in expected], dtype=torch.float64)
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_heads(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(name, PLAIN[name])
    with caplog.at_level(logging.WARNING, logger="squish_pl"):
        hidden = LanguageModel(model).hidden(torch.tensor([[1, 2, 3]]))
    assert "transforms its logits" not in caplog.text
    assert hidden.shape[-1] < 258  # hidden states, not logits
    assert_scores_equal_slow(model)


@pytest.mark.parametrize("name", TRANSFORMING)
def test_transformed_logits(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(name, TRANSFORMING[name])
    decoder = model.get_decoder()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        head_alone = model.get_output_embeddings()(decoder(input_ids=ids).last_hidden_state)
        assert not torch.allclose(head_alone, model(input_ids=ids).logits, rtol=0.1)
    with caplog.at_level(logging.WARNING, logger="squish_pl"):
        LanguageModel(model)
    assert "transforms its logits" in caplog.text
    assert_scores_equal_slow(model)


def test_softcapping_of_logits_that_are_still_small() -> None:
    """As a freshly made Gemma 2 has them: below 1, where a cap at 30 bends them by less than a thousandth."""
    assert_scores_equal_slow(make_model("Gemma2", {**SHAPE, "head_dim": 8, "initializer_range": 0.05}))


def test_the_test_row_leaves_the_model_as_it_was() -> None:
    for training in (True, False):
        model = make_model("Phi", SHAPE).train(training)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            LanguageModel(model)
        assert model.training is training
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
