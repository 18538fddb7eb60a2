"""Scoring, beside a bare forward pass of the decoder over the same padded batches.

python benchmarks/scoring.py --documents 2 --document 500 --group 16
python benchmarks/scoring.py --model.base random:qwen3-1.7b --model.device cuda --document 4096 --summary_max 400
"""

from __future__ import annotations

import random

import torch
from common import Model, alternate, make_backbone, report
from jsonargparse import auto_cli
from torch import Tensor
from transformers import Cache, PreTrainedModel

from squish_pl.lm.cutting import cut_to_tokens
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer


class Recorder(FrozenModel):
    """Keeps the padded batches that were read."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.batches: list[Tensor] = []

    def hidden(self, input_ids: Tensor, cache: Cache | None = None) -> Tensor:
        self.batches.append(input_ids)
        return super().hidden(input_ids, cache)


def main(
    model: Model = Model(),
    documents: int = 2,
    document: int = 500,
    group: int = 16,
    summary_min: int = 5,
    summary_max: int = 100,
    batch_tokens: int = 8192,
    repeats: int = 5,
    json: bool = False,
) -> None:
    """Measures scoring G summaries of each document, the documents alone included.

    Args:
        model: See `common.Model`.
        documents: Documents.
        document: Tokens of a document.
        group: G, summaries of a document.
        summary_min: Tokens of the shortest summary.
        summary_max: Tokens of the longest; lengths are drawn evenly.
        batch_tokens: Most tokens in one forward pass.
        repeats: Counted runs of each way, after one to warm up.
        json: Print JSON.
    """
    settings = dict(locals())
    backbone = make_backbone(model)
    tokenizer = backbone.tokenizer
    lm = backbone.model.unload()
    draw = random.Random(0)

    def text(tokens: int) -> str:
        return cut_to_tokens(" ".join(str(draw.randrange(10**6)) for _ in range(tokens)), tokenizer, tokens)

    def summaries() -> list[str]:
        return [text(draw.randint(summary_min, summary_max)) for _ in range(group)]

    requests = [ScoreRequest(text(document), summaries()) for _ in range(documents)]
    reference = Recorder(lm)
    scorer = SquishScorer(reference, tokenizer, batch_tokens=batch_tokens, cache_tokens=0)  # nothing remembered
    scorer.score_batch(requests)
    batches = list(reference.batches)
    tokens, padded = scorer.take_tokens(), sum(ids.numel() for ids in batches)

    @torch.inference_mode()
    def bare() -> None:
        for ids in batches:
            lm.get_decoder()(input_ids=ids, use_cache=False)

    @torch.inference_mode()
    def plain() -> None:
        for ids in batches:
            log_p = lm(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(dim=-1)
            log_p.gather(-1, ids[:, 1:].unsqueeze(-1)).cpu()

    ways = {
        "bare forward, no head": bare,
        "head and log-softmax, all positions": plain,
        "scorer": lambda: scorer.score_batch(requests),
        "scorer, with the summaries' likelihoods": lambda: scorer.evidence(requests, needs={"support"}),
    }
    results = alternate(ways, repeats, model.device)
    share = results["bare forward, no head"]["median_s"] / results["scorer"]["median_s"]
    support = results["scorer, with the summaries' likelihoods"]["median_s"] / results["scorer"]["median_s"]
    settings |= {
        "tokens": tokens,
        "padding": 1 - tokens / padded,
        "share_of_bare_speed": share,
        "support_cost": support,
    }
    title = f"scoring {tokens} tokens, {1 - tokens / padded:.1%} padding: {share:.2f} of the bare forward's speed, "
    title += f"{support:.2f} times the time with support"
    report(title, results, settings, json)


if __name__ == "__main__":
    torch.manual_seed(0)
    auto_cli(main, as_positional=False)
