"""A tiny policy whose adapter does something, groups of made-up rows, and both ways of running them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tiny import make_byte_tokenizer, make_tiny_model
from torch import Tensor

from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.padded import PaddedPasses
from squish_pl.policy.shared_prefix import SharedPrefixPasses
from squish_pl.types import Experience

Pass = tuple[Tensor, Tensor, list[Tensor]]  # log-probs, entropies, gradients


def shake(backbone: Backbone, seed: int = 1) -> None:
    """Gives the adapter other weights: a fresh one does nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def make_policy(architecture: str = "qwen3", dtype: torch.dtype = torch.float64, checkpointed: int = 0) -> Backbone:
    backbone = Backbone(make_tiny_model(architecture, dtype), make_byte_tokenizer(), LoraSettings(r=4))
    backbone.checkpoint_layers(checkpointed)
    shake(backbone)
    return backbone


def make_rows(groups: Sequence[tuple[int, Sequence[int]]], seed: int = 0) -> list[Experience]:
    """Rows of groups given as (prompt length, completion lengths)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> Tensor:
        return torch.randint(0, 256, (n,), generator=generator)

    rows = []
    for p, lengths in groups:
        prompt = draw(p)
        rows += [Experience(prompt, draw(n), torch.zeros(n), 0.0, 0.0) for n in lengths]
    return rows


def both_ways(backbone: Backbone, rows: Sequence[Experience], temperature: float = 1.0) -> tuple[Pass, Pass]:
    """A policy pass padded, and one with shared prefixes."""
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(sum(len(row.completion_ids) for row in rows), generator=generator, dtype=torch.float64)
    results = []
    for passes in (PaddedPasses(backbone.policy), SharedPrefixPasses(backbone.policy)):
        backbone.zero_grad()
        log_probs, entropies = passes.log_probs(rows, temperature)
        (log_probs * weights).sum().backward()
        gradients = [p.grad.clone() for p in backbone.adapter_parameters() if p.grad is not None]
        assert len(gradients) == len(backbone.adapter_parameters())
        results.append((log_probs.detach(), entropies, gradients))
    padded, shared = results
    return padded, shared


def assert_equal_passes(results: tuple[Pass, Pass], tolerance: float = 1e-9) -> None:
    (log_probs, entropies, gradients), (log_probs_2, entropies_2, gradients_2) = results
    assert torch.allclose(log_probs, log_probs_2, rtol=tolerance, atol=0)
    assert torch.allclose(entropies, entropies_2, rtol=tolerance, atol=0)
    scale = torch.cat([one.flatten() for one in gradients]).norm() / len(gradients) ** 0.5
    assert scale > 0
    for one, other in zip(gradients, gradients_2, strict=True):
        # a prompt of one token leaves nothing to choose from, and query gradients that are rounding alone
        assert (one - other).norm() < tolerance * max(one.norm(), scale)
