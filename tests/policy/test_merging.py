"""A merged model is the policy, whatever kind of adapter it had, in its own tied or untied embeddings."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from test_adapter_kinds import KEPT, make_model
from tiny import make_tiny_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from squish_pl.errors import ModelError
from squish_pl.policy.merging import merge

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of tied embeddings, which these tests are about

IDS = (torch.arange(80).view(2, 40) * 5 + 3) % 258


@torch.no_grad()
def log_probs(model: nn.Module) -> Tensor:
    return torch.log_softmax(model(input_ids=IDS).logits.double(), dim=-1)


def adapted(model: PreTrainedModel, config: peft.PeftConfig) -> peft.PeftModel:
    """The model with an adapter that has learnt something."""
    wrapped = peft.get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return wrapped.eval()


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("kind", ["lora", "all-linear", "rslora", "dora"])
def test_the_saved_model_is_the_policy(architecture: str, kind: str, tmp_path: Path) -> None:
    policy = adapted(make_tiny_model(architecture), KEPT[kind]())  # with tied embeddings
    expected, base = log_probs(policy), log_probs(make_tiny_model(architecture))
    assert (expected - base).abs().max() > 0.1  # or nothing would be tested
    merged = merge(policy)
    assert type(merged) is type(make_tiny_model(architecture))
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (log_probs(again) - expected).abs().max() < 1e-4
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


_EMBEDDINGS = ["embeddings", "head", "embeddings and head", "saved head", "saved embeddings", "tokens", "saved norms"]


@pytest.mark.parametrize("kind", _EMBEDDINGS)
@pytest.mark.parametrize("tied", [True, False])
def test_one_side_of_tied_embeddings_does_not_change_the_other(kind: str, tied: bool, tmp_path: Path) -> None:
    policy = adapted(make_model(tied=tied), KEPT[kind]())
    expected = log_probs(policy)
    assert (expected - log_probs(make_model(tied=tied))).abs().max() > 0.01
    merge(policy).save_pretrained(tmp_path)
    assert (log_probs(AutoModelForCausalLM.from_pretrained(tmp_path)) - expected).abs().max() < 1e-4


def test_a_merge_that_changes_the_policy_is_refused() -> None:
    policy = adapted(make_tiny_model(), KEPT["lora"]())

    def wrong(**settings: object) -> PreTrainedModel:
        return make_tiny_model()  # the base without its adapter

    policy.merge_and_unload = wrong
    with pytest.raises(ModelError, match="the merged model is not the policy: its log-probs differ by up to"):
        merge(policy)
