"""The padded way against the whole model, one sequence at a time."""

import pytest
import torch
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model
from tiny_policies import shake

from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.padded import PaddedPasses
from squish_pl.types import Experience


def rows():
    return [
        Experience(torch.arange(5, 20), torch.tensor([7, 8, 9]), torch.zeros(3), 0.0, 0.0),
        Experience(torch.arange(3, 12), torch.tensor([42]), torch.zeros(1), 0.0, 0.0),
    ]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probs_and_gradients_equal_one_sequence_at_a_time(architecture, checkpointing):
    model = make_tiny_model(architecture, torch.float64)
    backbone = Backbone(model, make_byte_tokenizer(), LoraSettings(r=4, alpha=8))
    backbone.checkpoint_layers(2 if checkpointing else 0)
    shake(backbone)
    weights = torch.tensor([0.5, -1.0, 2.0, 3.0], dtype=torch.float64)
    log_probs, entropies = PaddedPasses(backbone.policy).log_probs(rows())
    (log_probs * weights).sum().backward()
    gradients = [p.grad.clone() for p in backbone.adapter_parameters()]
    backbone.zero_grad()

    expected, expected_entropy = [], []
    for row in rows():  # the whole model, full logits, no padding
        ids = torch.cat([row.prompt_ids, row.completion_ids])
        logits = backbone.model(input_ids=ids.unsqueeze(0)).logits[0]
        for i, token in enumerate(row.completion_ids):
            log_p = torch.log_softmax(logits[len(row.prompt_ids) - 1 + i], -1)
            expected.append(log_p[token])
            expected_entropy.append(-(log_p.exp() * log_p).sum())
    expected = torch.stack(expected)
    (expected * weights).sum().backward()
    assert torch.allclose(log_probs, expected, rtol=1e-10)
    assert torch.allclose(entropies, torch.stack(expected_entropy), rtol=1e-10)
    for mine, parameter in zip(gradients, backbone.adapter_parameters(), strict=True):
        assert torch.allclose(mine, parameter.grad, rtol=1e-8, atol=1e-12)
