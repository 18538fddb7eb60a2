"""In half precision the logits of sampling, learning and scoring are the same float32 numbers."""

import pytest
import torch
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.lm.log_probs import chosen_log_probs, log_probs_of_logits, wide_logits
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone

IDS = torch.arange(40, 60).unsqueeze(0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sampling_learning_and_scoring_alike(dtype):
    backbone = Backbone(make_tiny_model("qwen3", dtype), make_byte_tokenizer(), LoraSettings(r=4))  # that does nothing
    policy, reference, targets = backbone.policy, backbone.reference, IDS[0, 1:]
    with policy.generating() as model:
        drawn = model(input_ids=IDS, use_cache=False, logits_to_keep=len(targets) + 1).logits[0, :-1]
    assert drawn.dtype == torch.float32
    hidden = policy.hidden(IDS)[0, :-1]
    weight = backbone.language_model.frozen_head_weight
    assert weight.dtype == dtype
    assert torch.equal(drawn, wide_logits(hidden, weight))
    assert not torch.equal(drawn, drawn.to(dtype).float())  # nothing rounded them
    sampled, entropies = log_probs_of_logits(drawn, targets)
    learnt, learnt_entropies = policy.token_log_probs(hidden, targets, 1.0)
    scored = chosen_log_probs(reference.hidden(IDS)[0, :-1], reference.head, targets, weight=reference.head_weight)
    assert learnt.requires_grad
    for one, other in ((sampled, learnt), (sampled, scored), (entropies, learnt_entropies)):
        torch.testing.assert_close(one, other.detach(), rtol=1e-5, atol=1e-5)


def test_the_head_is_its_own_again_afterwards():
    backbone = Backbone(make_tiny_model("qwen3", torch.bfloat16), make_byte_tokenizer(), LoraSettings(r=4))
    head = backbone.language_model.model.get_output_embeddings()

    def fail():
        with backbone.policy.generating():
            assert "forward" in vars(head)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "forward" not in vars(head)
    assert head(torch.zeros(1, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_float32_is_left_alone():
    backbone = Backbone(make_tiny_model("qwen3"), make_byte_tokenizer(), LoraSettings(r=4))
    with backbone.policy.generating():
        assert "forward" not in vars(backbone.language_model.model.get_output_embeddings())
