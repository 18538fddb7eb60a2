"""A whole training round (rollouts, scoring, K policy passes, each with its optimiser step): padded, and shared prefix.

python benchmarks/step.py --prompt 500 --group 16 --completion 64 --passes 4
"""

from __future__ import annotations

from common import Model, make_backbone, report
from jsonargparse import auto_cli
from round import make_batches, make_module, report_parts, summarise

from squish_pl.policy.trials import take_passes


def main(
    model: Model = Model(),
    prompt: int = 500,
    group: int = 16,
    completion: int = 64,
    passes: int = 4,
    documents: int = 1,
    padded_tokens: int = 2_304,
    repeats: int = 5,
    json: bool = False,
) -> None:
    """Measures whole rounds, the two ways in turn.

    Args:
        model: See `common.Model`.
        prompt: P, tokens, the document among them.
        group: G, completions of a document.
        completion: C, tokens each.
        passes: K, optimiser steps a round.
        documents: D, of a round.
        padded_tokens: Most tokens in a forward and backward pass of the padded way, as memory allows.
        repeats: Counted rounds of each way, after one to warm up.
        json: Print JSON.
    """
    settings = dict(locals())
    backbone = make_backbone(model)
    batches = make_batches(backbone.tokenizer, repeats + 1, documents, prompt)
    ways = {
        "padded": make_module(backbone, "padded", group, completion, passes, micro_batch_tokens=padded_tokens),
        "shared_prefix": make_module(backbone, "shared_prefix", group, completion, passes),
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number, batch in enumerate(batches):
        for name, module in ways.items():
            take_passes(backbone.policy, name)  # make_backbone has tried that it can
            rounds[name].append(module.run(batch, counted=number == 0))
    results = {name: summarise(measured) for name, measured in rounds.items()}
    report(f"round, P={prompt} G={group} C={completion} K={passes} D={documents}", results, settings, json)
    if not json:
        report_parts(results)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
