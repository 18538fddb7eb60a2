"""Whole rounds of configs/3090.yaml at the size of Qwen3-1.7B, in a process that may take 24 GB of its GPU.

Random weights, documents of 4,096 tokens, and every completion as long as it may be: the most that a round can ask for.
Prints for each phase the memory that the planner foretold and the peak that was measured, tokens a second, and which
share of the matrix units' speed that is. The speed is measured first, on one large bfloat16 product; the share counts
the multiplications with frozen weights alone (2 a weight and token, 4 in a policy pass, where weights get no gradient;
what checkpointing computes again does not count), so that it is a lower bound.

python benchmarks/memory_24gb.py
"""

from __future__ import annotations

import json as json_lib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from common import RANDOM_QWEN3, Model, make_backbone
from jsonargparse import auto_cli
from memory_table import show
from rich.console import Console
from rich.table import Table
from round import BUDGET, TEMPLATE, RoundModule, make_batches

from squish_pl.lm.device import total_bytes
from squish_pl.policy.caps import largest_need
from squish_pl.policy.memory.plan import MemorySettings
from squish_pl.policy.passes import PassesName
from squish_pl.policy.trials import choose_passes
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.losses import ClippedLoss
from squish_pl.rl.optimizer import OptimizerSettings
from squish_pl.rl.phases import PHASES, POLICY, ROLLOUT, SCORING
from squish_pl.types import Document

CONFIG = Path(__file__).parents[1] / "configs" / "3090.yaml"


def main(
    cap_gb: float = 24,
    documents: int | None = None,
    completion: int | None = None,
    rounds: int = 2,
    passes: PassesName = "shared_prefix",
    json: bool = False,
) -> None:
    """Runs and measures the rounds.

    Args:
        cap_gb: What the process may allocate; an allocation beyond it is an out-of-memory error.
        documents: D, of a round; by default the configuration's.
        completion: Tokens of every completion; by default the cap of the configuration's largest budget.
        rounds: After one to warm up.
        passes: "shared_prefix", "padded" or "auto".
        json: Print JSON.
    """
    if not torch.cuda.is_available():
        raise SystemExit("this takes a CUDA device; python benchmarks/memory_table.py computes the same without one")
    settings = dict(locals())
    device = torch.device("cuda", 0)
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gb * 1e9 / torch.cuda.mem_get_info(device)[1]), device)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    model: dict[str, Any] = config["model"]
    documents = documents or config["data"]["batch_size"]
    backbone = make_backbone(Model(RANDOM_QWEN3, dtype="bfloat16", device=str(device)))
    choose_passes(backbone.policy, passes)
    longest = config["data"]["max_tokens"]
    budgets = model["rollout"]["budgets"]
    completion = completion or largest_need(budgets, TEMPLATE, backbone.tokenizer, longest)[1]
    module = RoundModule(
        model["rollout"]["group_size"],
        completion,
        learn=LearnSettings(**model["learn"]),
        loss=ClippedLoss(**model["loss"]["init_args"]),
        optimizer=OptimizerSettings(**model["optimizer"]),
        memory=MemorySettings(passes=passes, **model["memory"]),
    )
    module.set_backbone(backbone)
    around = len(TEMPLATE.build(Document(""), BUDGET, module.tokenizer).token_ids)
    prompt = longest + around
    batches = make_batches(module.tokenizer, rounds + 1, documents, prompt)
    peak_flops = matrix_peak(device)
    measured = []
    for batch in batches:
        seconds = module.run(batch)
        measured.append((seconds, dict(module.clock.peak_bytes), torch.cuda.memory_allocated(device)))
    seconds, peaks, _ = measured[-1]
    tokens = phase_tokens(module, documents, prompt, completion)
    expected = foretold(module, prompt, completion)
    figures = {
        phase: {
            "foretold_gb": expected[phase],
            "peak_gb": max(p[phase] for _, p, _ in measured) / 1e9,
            "seconds": seconds[phase],
            "tokens_per_second": tokens[phase] / seconds[phase],
            "share_of_matrix_peak": flops(module, phase, tokens[phase]) / seconds[phase] / peak_flops,
        }
        for phase in PHASES
    }
    rest = {
        "device": torch.cuda.get_device_name(device),
        "cap_gb": total_bytes(device) / 1e9,
        "matrix_peak_tflops": peak_flops / 1e12,
        "round_seconds": seconds["round"],
        "peak_gb": max(max(p.values()) for _, p, _ in measured) / 1e9,
        "allocated_after_each_round_gb": [allocated / 1e9 for _, _, allocated in measured],
    }
    if json:
        print(json_lib.dumps({"settings": settings, "phases": figures, **rest}))
        return
    _print(figures, rest)


def matrix_peak(device: torch.device, size: int = 8192) -> float:
    """Floating-point operations a second of a large bfloat16 product, the best of ten."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def phase_tokens(module: RoundModule, documents: int, prompt: int, completion: int) -> dict[str, int]:
    """Tokens of a round that had to go through the model: a prompt once for its group, padding and splits left out."""
    group = documents * (prompt + module.rollout.group_size * completion)
    return {ROLLOUT: group, SCORING: module.clock.tokens[SCORING], POLICY: group * module.learn.policy_passes}


def flops(module: RoundModule, phase: str, tokens: int) -> float:
    """Operations with the decoder's frozen weights; the output head is left out, as prompts do not reach it."""
    decoder = module.backbone.language_model.decoder
    embedding = module.backbone.language_model.model.get_input_embeddings()
    weights = sum(p.numel() for p in decoder.parameters() if not p.requires_grad)
    weights -= sum(p.numel() for p in embedding.parameters())
    return (4 if phase == POLICY else 2) * weights * tokens


def foretold(module: RoundModule, prompt: int, completion: int) -> dict[str, float]:
    """GB that the plan thought each phase would take, weights and gradients among them."""
    plan, costs, group = module.engine.plan, module.engine.plan.costs, module.rollout.group_size
    rows = plan.rows([prompt] * 10_000, group, completion)
    tokens = min(prompt + group * (completion - 1), plan.learning.value)
    need = {
        ROLLOUT: costs.rollout(rows // group, prompt, rows, completion),
        SCORING: costs.scoring(plan.scoring.value),
        POLICY: costs.learning(tokens, plan.checkpointed(tokens)),
    }
    return {phase: (costs.weights + costs.gradients + value) / 1e9 for phase, value in need.items()}


def _print(figures: Mapping[str, Mapping[str, float]], rest: Mapping[str, Any]) -> None:
    table = Table(title=f"{rest['device']}, capped at {rest['cap_gb']:.0f} GB", title_justify="left")
    table.add_column("phase")
    for heading in ("foretold GB", "peak GB", "seconds", "tokens/s", "of matrix peak"):
        table.add_column(heading, justify="right")
    for phase, f in figures.items():
        cells = (f"{f['foretold_gb']:.1f}", f"{f['peak_gb']:.1f}", f"{f['seconds']:.1f}")
        table.add_row(phase, *cells, f"{f['tokens_per_second']:,.0f}", f"{f['share_of_matrix_peak']:.0%}")
    Console().print(table)
    show({f"allocated after round {i}": gb for i, gb in enumerate(rest["allocated_after_each_round_gb"])}, "left over")
    print(
        f"round {rest['round_seconds']:.1f} s, peak {rest['peak_gb']:.1f} GB, {rest['matrix_peak_tflops']:.0f} TFLOP/s"
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    auto_cli(main, as_positional=False)
