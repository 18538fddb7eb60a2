"""What each phase of a round takes at the size of Qwen3-1.7B, computed without a GPU or weights.

The model is built on PyTorch's "meta" device, where shapes are computed and numbers are not, and the planner counts
the tensors of its passes there as it does on the model of a real run.

python benchmarks/memory_table.py --limit_gb 16
"""

from __future__ import annotations

import json as json_lib
from collections.abc import Mapping

import torch
from common import RANDOM_QWEN3, Model, make_backbone
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from squish_pl.lm.halving import Limit
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings


def plan_for(backbone: Backbone, limit_gb: float, rows: int, scoring: int, learning: int) -> MemoryPlan:
    """The plan of a card on which the process may take `limit_gb`, optimiser state on the CPU between steps."""
    costs = Costs(backbone)
    settings = MemorySettings(max_rows=rows, micro_batch_tokens=learning)
    plan = MemoryPlan(costs, settings, Limit("scoring pass", "tokens", scoring), offload=True)
    plan.available = int(limit_gb * 1e9) - costs.weights - costs.gradients
    plan.settle_learning()
    return plan


def phase_table(
    plan: MemoryPlan, prompt: int, group: int, new_tokens: int, typical: int, documents: int
) -> dict[str, float]:
    """GB of each phase, weights and gradients among them.

    Args:
        plan: Of the card.
        prompt: Tokens of a prompt.
        group: Completions a prompt.
        new_tokens: Cap on a completion.
        typical: Tokens of a typical completion.
        documents: Of a round.
    """
    costs = plan.costs
    resident = costs.weights + costs.gradients
    rows = plan.rows([prompt] * documents, group, new_tokens)
    figures: dict[str, int] = {
        "weights": costs.weights,
        "gradients of the adapter": costs.gradients,
        "optimiser step, its state on the card": resident + costs.optimizer_state,
        f"rollout, {rows} rows of at most {new_tokens} tokens": resident
        + costs.rollout(rows // group, prompt, rows, new_tokens),
        f"scoring, {plan.scoring.value:,} tokens": resident + costs.scoring(plan.scoring.value),
    }
    for name, completion in (("typical", typical), ("full-length", new_tokens)):
        tokens = prompt + group * (completion - 1)
        for layers in (0, costs.layers):
            figures[f"policy pass, {name} group of {tokens:,} tokens, {layers} layers checkpointed"] = (
                resident + costs.learning(tokens, layers)
            )
        size = min(tokens, plan.learning.value)
        layers = plan.checkpointed(size)
        figures[f"policy pass, {name} group as planned: {size:,} tokens, {layers} layers checkpointed"] = (
            resident + costs.learning(size, layers)
        )
    return {name: value / 1e9 for name, value in figures.items()}


def show(figures: Mapping[str, float], title: str) -> None:
    """Prints the table."""
    table = Table(title=title, title_justify="left")
    table.add_column("phase")
    table.add_column("GB", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)


def main(
    limit_gb: float = 16,
    prompt: int = 4200,
    group: int = 32,
    new_tokens: int = 1250,
    typical: int = 100,
    documents: int = 32,
    rows: int = 256,
    scoring: int = 8192,
    learning: int = 32_768,
    json: bool = False,
) -> None:
    """Computes the table.

    Args:
        limit_gb: What the process may take of the card.
        prompt: Tokens of a prompt: a document of 4,096 and the words around it.
        group: G, completions a prompt.
        new_tokens: Cap on a completion: that of 20 % of such a document (see `policy.caps`).
        typical: Tokens of a typical completion.
        documents: D, of a round.
        rows: Most sequences decoded together.
        scoring: Most tokens in a scoring pass.
        learning: Most tokens in a policy pass.
        json: Print JSON.
    """
    settings = dict(locals())
    backbone = make_backbone(Model(RANDOM_QWEN3, dtype="bfloat16", device="meta"))
    plan = plan_for(backbone, limit_gb, rows, scoring, learning)
    figures = phase_table(plan, prompt, group, new_tokens, typical, documents)
    if json:
        print(json_lib.dumps({"settings": settings, "gb": figures}))
    else:
        show(figures, f"Qwen3-1.7B in bfloat16, adapter of rank 32, {limit_gb:g} GB: computed")


if __name__ == "__main__":
    torch.manual_seed(0)
    auto_cli(main, as_positional=False)
