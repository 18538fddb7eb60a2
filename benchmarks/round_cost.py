"""What a round costs on a card, computed from its operations: nothing is run.

python benchmarks/round_cost.py --documents 32 --group 32 --rounds 190

    scoring   G summaries before each document and the document alone, forward
    passes    K times the prompt and G completions, forward and backward, half of the layers computed again
    rollout   the prompts once, then a step for each token of the longest completion: weights, prompts and tokens are
              read in every one, and the host has to launch it

Products run at 75 % of the card's dense bfloat16 peak, attention at half of it, memory at 85 % of its peak.
"""

from __future__ import annotations

import json as json_lib
from dataclasses import dataclass
from statistics import fmean

from jsonargparse import auto_cli


@dataclass(frozen=True)
class Card:
    """A card's peaks, as its maker states them: dense bfloat16 products added up in float32, and memory."""

    flops: float
    bandwidth: float


CARDS = {"RTX 3090": Card(71e12, 936e9), "RTX 4090": Card(165e12, 1008e9), "H100": Card(989e12, 3350e9)}


@dataclass(frozen=True)
class Shape:
    """The model's numbers that count; by default Qwen3-1.7B with an adapter of rank 32."""

    layers: int = 28
    weights: float = 1.409e9  # of all layers
    adapter: float = 35e6
    width: int = 2048  # query heads times their size
    key_width: int = 1024
    hidden: int = 2048
    vocabulary: int = 151_936


def round_seconds(
    card: Card,
    shape: Shape,
    documents: int,
    group: int,
    passes: int = 4,
    document: int = 4096,
    budgets: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2),
    rows: int = 64,
    launch: float = 0.012,
) -> dict[str, float]:
    """Seconds of each phase.

    Args:
        card: Where it runs.
        shape: Of the model.
        documents: D.
        group: G.
        passes: K.
        document: Tokens of a document; the longest by default, so this is the most that a round takes.
        budgets: Shares of the document that are drawn from; a summary fills its own.
        rows: Sequences decoded together.
        launch: Least seconds of a decoding step: the host's.
    """
    products, attention, memory = 0.75 * card.flops, 0.5 * card.flops, 0.85 * card.bandwidth
    summary, prompt = fmean(budgets) * document, document + 100

    def pairs(queries: float, keys: float) -> float:  # operations of attention, forward
        return 4 * queries * keys * shape.width * shape.layers

    head = 2 * shape.vocabulary * shape.hidden
    scored = documents * (group + 1) * document
    read = documents * group * (document + summary) + documents * document
    scoring = (2 * shape.weights * read + head * scored) / products + pairs(read, (document + summary) / 2) / attention
    written = documents * group * summary
    learnt = documents * prompt + written
    looked_at = pairs(documents * prompt, prompt / 2) + pairs(written, prompt + summary / 2)
    a_pass = (
        (5 * shape.weights + 6 * shape.adapter) * learnt + 2 * head * written
    ) / products + 3.5 * looked_at / attention
    together = max(1, rows // group)
    # steps go on until the longest summary of those decoded together is written
    ordered = sorted(budgets)
    shares = [(i + 1) / len(ordered) for i in range(len(ordered))]
    longest = sum(
        b * (s**together - before**together) for b, s, before in zip(ordered, shares, [0.0, *shares[:-1]], strict=True)
    )
    steps = documents / together * longest * document
    cache = 2 * 2 * shape.key_width * shape.layers  # bytes of a token
    moved = 2 * (shape.weights + shape.vocabulary * shape.hidden) + cache * together * (prompt + group * summary / 2)
    prefill = 2 * shape.weights * documents * prompt / products
    return {
        "scoring": scoring,
        "passes": passes * a_pass,
        "rollout": prefill + steps * max(launch, moved / memory),
    }


def main(
    documents: int = 32, group: int = 32, rounds: int = 190, passes: int = 4, document: int = 4096, json: bool = False
) -> None:
    """Prints a round's seconds and a run's hours on some cards.

    Args:
        documents: D, of a round.
        group: G, summaries a document.
        rounds: Of the run.
        passes: K, policy passes a round.
        document: Tokens of a document.
        json: Print JSON.
    """
    found = {
        name: round_seconds(card, Shape(), documents, group, passes, document, rows=64 if card.flops < 5e14 else 256)
        for name, card in CARDS.items()
    }
    if json:
        print(json_lib.dumps(found))
        return
    print(f"{documents} documents x {group} summaries, {passes} passes, {document} tokens a document, {rounds} rounds:")
    for name, phases in found.items():
        total = sum(phases.values())
        parts = ", ".join(f"{phase} {seconds:.0f}" for phase, seconds in phases.items())
        print(f"  {name}: {total:.0f} s a round ({parts}), {total * rounds / 3600:.0f} h")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
