"""A policy pass and decoding on the card that is not there, in a process of its own; prints what was counted as JSON.

    PYTHONPATH=tests/rehearsal:tests:. python tests/rehearsal/rehearse.py [mistake]

With the name of a mistake that is put into the program before.
"""

import json
import sys
from collections import Counter

import card  # has to come before torch
import torch
from tiny import make_byte_tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from squish_pl.budget import Budget
from squish_pl.policy import prefix_attention, prefix_decoder, rollout
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.fused_step import FusedStep
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.prefix_attention import PrefixLayout, flash_attention
from squish_pl.policy.prefix_decoder import SharedPrefixDecoder
from squish_pl.policy.shared_prefix import SharedPrefixPasses
from squish_pl.types import Document, Experience, Prompt

LAYERS, GROUP, NEW = 4, 8, 40
PROMPTS = (50, 90)


def layout_on_the_cpu():
    made = PrefixLayout.of
    PrefixLayout.of = classmethod(lambda cls, groups, device: made(groups, card.CPU))


def queries_in_float32():
    prefix_decoder.flash_attention = lambda q, *rest: flash_attention(q.float(), *rest)


def log_sum_exp_in_half():
    backward = prefix_attention.flash_attention_backward

    def rounded(grad, q, k, v, out, lse, causal, scale):
        return backward(grad, q, k, v, out, lse.to(q.dtype), causal, scale)

    prefix_attention.flash_attention_backward = rounded


def a_look_at_every_step():
    step = FusedStep.__call__

    def looking(self, tokens, positions, attend):
        assert int(tokens.max()) >= 0
        return step(self, tokens, positions, attend)

    FusedStep.__call__ = looking


def a_mask_in_the_draw():
    draw = rollout.draw

    def masking(logits, temperature, numbers):
        drawn, finite = draw(logits, temperature, numbers)
        drawn[~finite] = 0
        return drawn, finite

    rollout.draw = masking


def the_models_own_layers():
    SharedPrefixDecoder.fuses = False


def all_rows_at_once():
    def keep(self, rows):
        self._spans = prefix_attention.RowSpans.of([4, 4], self._spans.keys, self.device)
        rows = rows.to(self.device)
        self._own = {layer: kv[rows] for layer, kv in self._own.items()}
        self._position = self._position[rows]

    SharedPrefixDecoder.keep = keep


MISTAKES = {
    mistake.__name__: mistake
    for mistake in (
        layout_on_the_cpu,
        queries_in_float32,
        log_sum_exp_in_half,
        a_look_at_every_step,
        a_mask_in_the_draw,
        the_models_own_layers,
        all_rows_at_once,
    )
}


def make_backbone():
    torch.manual_seed(0)
    shape = {
        "vocab_size": 258,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    model = Qwen3ForCausalLM(Qwen3Config(**shape)).to(torch.bfloat16).eval()
    backbone = Backbone(model, make_byte_tokenizer(), LoraSettings(r=4))
    for parameter in backbone.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    backbone.to("cuda")
    backbone.policy.passes = SharedPrefixPasses(backbone.policy)
    return backbone


def policy_pass(backbone):
    prompts = [torch.arange(n) for n in PROMPTS]
    rows = [Experience(p, torch.arange(n) + 3, torch.zeros(n), 0.0, 0.0) for p in prompts for n in (9, 1, 30)]
    log_probs, _ = backbone.policy.passes.log_probs(rows)
    log_probs.sum().backward()
    assert all(float(p.grad.norm()) > 0 for p in backbone.adapter_parameters())


def decoding(backbone, device):
    """{figure: counted} of a group's decoding that half of the rows leave near the end."""
    foretold = Costs(backbone).rollout(len(PROMPTS), max(PROMPTS), GROUP * len(PROMPTS), NEW)
    prompts = [Prompt(Document(""), Budget.parse("1 char"), "", tuple(range(n))) for n in PROMPTS]
    counted = {}
    with backbone.policy.generating() as model:
        before = device.peak = device.live
        decoder = backbone.policy.passes.decoder(model, GROUP, NEW)
        numbers = rollout.Numbers([1, 2], decoder.device)
        left = torch.arange(GROUP * len(PROMPTS))
        logits = decoder.prefill(prompts)
        for step in range(NEW - 1):
            with device.counting() as (launches, waits):
                tokens, *_ = rollout._draw(logits, 1.0, numbers, GROUP, left)
            draw = launches, waits
            if step == NEW - 5:
                kept = torch.arange(0, len(left), 2)
                tokens, left = tokens[kept.to(card.DEVICE)], left[kept]
                decoder.keep(kept)
            with device.counting() as (launches, waits):
                logits = decoder.step(tokens)
            if step == NEW // 2:
                counted = {
                    "step launches": launches.total(),
                    "step waits": dict(waits),
                    "draw launches": draw[0].total(),
                    "draw waits": dict(draw[1]),
                    "most launched": dict(Counter(launches).most_common(8)),
                }
        return counted | {"peak": device.peak - before, "foretold": foretold}


def main(mistake=None):
    with card.Card() as device:
        if mistake is not None:
            MISTAKES[mistake]()
        backbone = make_backbone()
        try:
            policy_pass(backbone)
            found = decoding(backbone, device)
        except card.Refused as refusal:
            found = {"refused": str(refusal)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
