"""A policy pass, forward and backward, the padded way and the shared-prefix way.

python benchmarks/policy_pass.py --prompt 500 --group 16 --completion 64
python benchmarks/policy_pass.py --model.base random:qwen3-1.7b --model.device cuda --prompt 4096 --group 32
"""

from __future__ import annotations

from functools import partial

import torch
from common import Model, alternate, make_backbone, make_group, report
from jsonargparse import auto_cli

from squish_pl.policy.padded import PaddedPasses
from squish_pl.policy.passes import Passes
from squish_pl.policy.shared_prefix import SharedPrefixPasses
from squish_pl.rl.experience import micro_batches


def main(
    model: Model = Model(),
    prompt: int = 500,
    group: int = 16,
    completion: int = 64,
    padded_rows: int = 4,
    checkpointed: int = 0,
    repeats: int = 5,
    json: bool = False,
) -> None:
    """Measures one group's policy pass.

    Args:
        model: See `common.Model`.
        prompt: P, tokens.
        group: G, completions.
        completion: C, tokens each.
        padded_rows: Rows in a forward pass of the padded way, as memory allows.
        checkpointed: Layers that compute their activations again in backward, in both ways.
        repeats: Counted runs of each way, after one to warm up.
        json: Print JSON.
    """
    settings = dict(locals())
    backbone = make_backbone(model, checkpointed)
    rows = make_group(backbone.policy.config.vocab_size, prompt, group, completion)

    def run(passes: Passes, tokens: int) -> None:
        backbone.zero_grad()
        for part in micro_batches(rows, passes.tokens, tokens):
            log_probs, _ = passes.log_probs(part)
            log_probs.sum().backward()

    ways = {
        "padded": partial(run, PaddedPasses(backbone.policy), padded_rows * (prompt + completion)),
        "shared_prefix": partial(run, SharedPrefixPasses(backbone.policy), prompt + group * completion),
    }
    results = alternate(ways, repeats, model.device)
    report(f"policy pass, P={prompt} G={group} C={completion}", results, settings, json)


if __name__ == "__main__":
    torch.manual_seed(0)
    auto_cli(main, as_positional=False)
