"""Whether a group shares its prompt's pass: decided once, by a trial on the model and device at hand."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from squish_pl.errors import ModelError
from squish_pl.policy import grouped, padded
from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.decoding import Decoder, GroupedDecoder, PaddedDecoder
from squish_pl.score.budget import Budget
from squish_pl.types import Document, Experience, Prompt

log = logging.getLogger(__name__)

Grouping = Literal["auto", "grouped", "padded"]


def choose_way(policy: PolicyView, wanted: Grouping) -> None:
    """Settles how rollouts and policy passes run with a model, on the device where it lies now.

    Args:
        policy: The model with its adapter on; its `grouped` is set.
        wanted: "padded": the prompt runs for every completion; "grouped": once for all, or an error where that cannot
            be; "auto": grouped where it can be, with one log line where it cannot.

    Raises:
        ModelError: "grouped" is wanted and cannot be.
    """
    if wanted == "padded":
        policy.grouped = False
        return
    policy.use_group_attention()
    problem = grouping_problem(policy)
    if problem is not None and wanted == "grouped":
        raise ModelError(f"model.grouping is 'grouped', but this model cannot: {problem}; use 'auto' or 'padded'")
    if problem is not None:
        log.warning("the prompt runs once for each completion, not once for its group: %s", problem)
    policy.grouped = problem is None


def completion_log_probs(
    policy: PolicyView, rows: Sequence[Experience], temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of generated tokens in the way that was chosen; see the two ways' modules."""
    way = grouped if policy.grouped else padded
    return way.completion_log_probs(policy, rows, temperature)


def pass_tokens(policy: PolicyView, rows: Sequence[Experience]) -> int:
    """Tokens that a pass over these rows runs through the model in the way that was chosen."""
    return (grouped if policy.grouped else padded).pass_tokens(rows)


def grouping_problem(policy: PolicyView) -> str | None:
    """Why the grouped way cannot be used; None if it can.

    The configuration tells of attention that looks at less than everything; the rest shows in a trial.
    """
    config = policy.config
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "its attention has a sliding window"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        return "some of its layers have no full attention"
    try:
        with torch.compiler.set_stance("force_eager"):  # the trial's shapes are not worth compiling
            difference = max(_pass_difference(policy), _decoding_difference(policy))
    except Exception as error:
        return f"a trial failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    # in half precision the two ways round differently, by some hundredths of a nat; a wrong one is off by whole nats
    tolerance = 0.3 if policy.dtype in (torch.bfloat16, torch.float16) else 1e-3
    return None if difference < tolerance else f"a trial differed by {difference:.1e} nats a token"


def _made_up_tokens(policy: PolicyView, count: int) -> Tensor:
    return (torch.arange(1, count + 1) * 7919) % policy.config.vocab_size


@torch.no_grad()
def _pass_difference(policy: PolicyView) -> float:
    """Mean difference of log-probs between the two ways on a small made-up group, nats."""
    ids = _made_up_tokens(policy, 39)
    prompt, completions = ids[:24], (ids[24:29], ids[29:30], ids[30:39])
    rows = [Experience(prompt, completion, torch.zeros(len(completion)), 0.0, 0.0) for completion in completions]
    expected, _ = padded.completion_log_probs(policy, rows)
    actual, _ = grouped.completion_log_probs(policy, rows)
    return float((actual - expected).abs().mean())


def _decoding_difference(policy: PolicyView) -> float:
    """Mean difference of log-probs between the two decoders over a few steps, a row leaving on the way, nats.

    The mean is weighted by the probabilities: what the unlikeliest tokens of a vocabulary get is rounding.
    """
    ids = _made_up_tokens(policy, 24)
    prompts = [
        Prompt(Document(""), Budget.parse("1 char"), "", tuple(part.tolist())) for part in (ids[:12], ids[12:20])
    ]
    results = []
    with policy.generating() as model:
        for kind in (PaddedDecoder, GroupedDecoder):
            decoder: Decoder = kind(model, 2, 4)
            logits = [decoder.prefill(prompts), decoder.step(ids[20:24].to(decoder.device))]
            decoder.keep(torch.tensor([0, 2, 3], device=decoder.device))
            logits.append(decoder.step(ids[:3].to(decoder.device)))
            results.append(torch.log_softmax(torch.cat(logits).float(), dim=-1))
    return float((results[0].exp() * (results[0] - results[1]).abs()).sum(dim=-1).mean())
