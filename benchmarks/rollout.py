"""A group's completions: the library's generate, our padded decoder, our shared-prefix decoder.

python benchmarks/rollout.py --prompt 500 --group 8 --completion 64
"""

from __future__ import annotations

import torch
from common import Model, alternate, make_backbone, make_group, report
from jsonargparse import auto_cli

from squish_pl.budget import Budget
from squish_pl.policy.padded import PaddedDecoder
from squish_pl.policy.passes import Decoder
from squish_pl.policy.shared_prefix import SharedPrefixDecoder
from squish_pl.types import Document, Prompt


def main(
    model: Model = Model(),
    prompt: int = 500,
    group: int = 8,
    completion: int = 64,
    repeats: int = 5,
    json: bool = False,
) -> None:
    """Measures sampling G completions of exactly C tokens behind one prompt.

    Args:
        model: See `common.Model`.
        prompt: P, tokens.
        group: G, completions.
        completion: C, tokens each.
        repeats: Counted runs of each way, after one to warm up.
        json: Print JSON.
    """
    settings = dict(locals())
    backbone = make_backbone(model)
    (row, *_) = make_group(backbone.policy.config.vocab_size, prompt, group, completion)
    ours = Prompt(Document(""), Budget.parse("1 char"), "", tuple(row.prompt_ids.tolist()))

    def library() -> None:
        with backbone.policy.generating() as lm:
            ids = row.prompt_ids.unsqueeze(0).to(model.device)
            length = {"max_new_tokens": completion, "min_new_tokens": completion}
            sampling = {"do_sample": True, "top_k": 0, "top_p": 1.0, "num_return_sequences": group, "pad_token_id": 0}
            lm.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **length, **sampling)

    def decode(kind: type[Decoder]) -> None:
        with backbone.policy.generating() as lm:
            decoder = kind(lm, group, completion)
            logits = decoder.prefill([ours])
            for _ in range(completion - 1):
                logits = decoder.step(torch.softmax(logits.float(), -1).multinomial(1).squeeze(1))

    ways = {
        "generate": library,
        "padded": lambda: decode(PaddedDecoder),
        "shared_prefix": lambda: decode(SharedPrefixDecoder),
    }
    results = alternate(ways, repeats, model.device)
    report(f"rollout, P={prompt} G={group} C={completion}", results, settings, json)


if __name__ == "__main__":
    torch.manual_seed(0)
    auto_cli(main, as_positional=False)
