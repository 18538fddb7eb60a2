"""The frozen reference: no adapter takes part, no gradient is recorded, and a score follows its weights."""

from __future__ import annotations

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from score_brute_force import byte_ids
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer

DOCUMENT = "the ferry left before dawn, and nobody on the quay saw who steered it"


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(target_modules=["q_proj"]),
        IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        pytest.param(
            PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        ),
    ],
    ids=["lora", "ia3", "prompt tuning"],
)
def test_an_adapter_is_refused(config: LoraConfig) -> None:
    model = get_peft_model(make_tiny_model("llama"), config)
    with pytest.raises(TypeError, match="adapter"):
        FrozenModel(model)  # type: ignore[arg-type]


def test_a_model_that_peft_has_put_layers_into_is_refused() -> None:
    model = make_tiny_model("llama")
    peft_model = get_peft_model(model, LoraConfig(target_modules=["v_proj"]))
    with pytest.raises(TypeError, match="adapter"):
        FrozenModel(model)
    with peft_model.disable_adapter(), pytest.raises(TypeError, match="adapter"):
        FrozenModel(model)
    FrozenModel(peft_model.merge_and_unload())  # plain again


def test_an_adapter_put_in_later_takes_no_part() -> None:
    model = make_tiny_model("llama", torch.float64)
    reference = FrozenModel(model)
    before = SquishScorer(reference, make_byte_tokenizer()).score(DOCUMENT, ["a ferry"])
    get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    try:
        after = SquishScorer(reference, make_byte_tokenizer()).score(DOCUMENT, ["a ferry"])
    except (TypeError, RuntimeError):
        return  # refusing is as good
    assert float(after.score) == pytest.approx(float(before.score), rel=1e-9, abs=0)


def test_it_is_frozen_and_records_no_gradient() -> None:
    model = make_tiny_model("llama")
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    reference = FrozenModel(model.train())
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.enable_grad():
        hidden = reference.hidden(torch.tensor([byte_ids(DOCUMENT)]))
        assert not hidden.requires_grad
        assert not reference.head(hidden[0]).requires_grad
    first, second = (SquishScorer(reference, make_byte_tokenizer()).score(DOCUMENT, ["a ferry"]) for _ in range(2))
    assert first.score == second.score


def test_a_score_follows_the_weights() -> None:
    """Nothing is remembered across references."""
    references = [FrozenModel(make_tiny_model("qwen3", torch.float64, seed=seed)) for seed in (0, 9)]
    scores = [SquishScorer(r, make_byte_tokenizer()).score(DOCUMENT, ["a ferry"]) for r in references]
    assert abs(scores[0].information - scores[1].information) > 1e-3
