"""What a larger group costs: a shared-prefix policy pass, forward and backward, for several group sizes.

python benchmarks/group_size.py --prompt 2000 --completion 64 --groups [8,32]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from common import Model, alternate, make_backbone, make_group, report
from jsonargparse import auto_cli

from squish_pl.types import Experience


def main(
    model: Model = Model(),
    prompt: int = 2000,
    groups: list[int] = [8, 32],
    completion: int = 64,
    repeats: int = 5,
    json: bool = False,
) -> None:
    """Measures a pass for each group size, in turn.

    Args:
        model: See `common.Model`.
        prompt: P, tokens.
        groups: G, completions, of each way.
        completion: C, tokens each.
        repeats: Counted runs of each way, after one to warm up.
        json: Print JSON.
    """
    settings = dict(locals())
    backbone = make_backbone(model)

    def run(rows: Sequence[Experience]) -> None:
        backbone.zero_grad()
        log_probs, _ = backbone.policy.passes.log_probs(rows)
        log_probs.sum().backward()

    sizes = {f"G={g}": make_group(backbone.policy.config.vocab_size, prompt, g, completion) for g in groups}
    results = alternate({name: (lambda rows=rows: run(rows)) for name, rows in sizes.items()}, repeats, model.device)
    report(f"policy pass by group size, P={prompt} C={completion}", results, settings, json)


if __name__ == "__main__":
    torch.manual_seed(0)
    auto_cli(main, as_positional=False)
