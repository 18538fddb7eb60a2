"""Policy log-probs the grouped way: the prompt goes through the model once for all of its completions.

padded:   G rows of P + C tokens           grouped:   one row of P + sum(C_i) tokens
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from squish_pl.errors import ModelError
from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.group_attention import GroupLayout
from squish_pl.policy.padded import completion_log_probs as padded_log_probs
from squish_pl.types import Experience

log = logging.getLogger(__name__)


def completion_log_probs(
    policy: PolicyView, rows: Sequence[Experience], temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probs of the generated tokens under the policy as it is now; see the padded way for the contract.

    Rows that follow one another and belong to one group share their prompt's pass.
    """
    hidden, targets = [], []
    for members in _groups(rows):
        hidden.append(_group_hidden(policy, members))
        targets += [row.completion_ids for row in members]
    return policy.token_log_probs(torch.cat(hidden), torch.cat(targets).to(policy.device), temperature)


def _groups(rows: Sequence[Experience]) -> Iterator[list[Experience]]:
    # rows of a group hold the very same prompt tensor
    for _, members in groupby(rows, key=lambda row: id(row.prompt_ids)):
        yield list(members)


def _group_hidden(policy: PolicyView, members: Sequence[Experience]) -> Tensor:
    """[N, H] hidden states that predict the completions' tokens, one completion after another."""
    prompt, device = members[0].prompt_ids, policy.device
    p, lengths = len(prompt), [len(row.completion_ids) for row in members]
    # a completion's last token is only predicted, never read; of a completion of one token nothing is read
    read = [row.completion_ids[:-1] for row in members]
    inside = [ids for ids in read if len(ids)]
    positions = torch.cat([torch.arange(p), *(p + torch.arange(len(ids)) for ids in inside)])
    if inside:
        layout = GroupLayout.of([len(ids) for ids in inside], device)
        hidden = policy.packed_hidden(torch.cat([prompt, *inside]).to(device), positions.to(device), layout)
    else:
        hidden = policy.hidden(prompt.unsqueeze(0).to(device))[0]
    return hidden[_predicting_rows(p, lengths).to(device)]


def _predicting_rows(p: int, lengths: Sequence[int]) -> Tensor:
    """[N] rows of the packed output that predict the completions' tokens.

    A completion's first token is predicted by the prompt's last row, p - 1, the others by the rows of their
    predecessors.
    """
    rows, start = [], p
    for length in lengths:
        rows += [p - 1, *range(start, start + length - 1)]
        start += length - 1
    return torch.tensor(rows)


PolicyPass = Callable[[PolicyView, Sequence[Experience], float], tuple[Tensor, Tensor]]


def choose_policy_pass(policy: PolicyView, wanted: Literal["auto", "grouped", "padded"]) -> PolicyPass:
    """The way policy passes run with a model, on the device where it lies now.

    Args:
        policy: The model with its adapter on.
        wanted: "padded"; "grouped", or an error where that cannot be; "auto": grouped where it can be, with one log
            line where it cannot.

    Raises:
        ModelError: "grouped" is wanted and cannot be.
    """
    if wanted == "padded":
        return padded_log_probs
    policy.use_group_attention()
    problem = grouping_problem(policy)
    if problem is None:
        return completion_log_probs
    if wanted == "grouped":
        raise ModelError(f"model.policy_pass is 'grouped', but this model cannot: {problem}; use 'auto' or 'padded'")
    log.warning("policy passes run the padded way, one prompt a completion: %s", problem)
    return padded_log_probs


@torch.no_grad()
def _difference(policy: PolicyView) -> float:
    """Largest relative difference of log-probs between the two ways, on a small made-up group."""
    ids = (torch.arange(1, 40) * 7919) % policy.config.vocab_size
    prompt = ids[:24]
    rows = [
        Experience(prompt, completion, torch.zeros(len(completion)), 0.0, 0.0)
        for completion in (ids[24:29], ids[29:30], ids[30:39])
    ]
    expected, _ = padded_log_probs(policy, rows)
    actual, _ = completion_log_probs(policy, rows)
    return float(((actual - expected).abs() / expected.abs().clamp_min(1e-3)).max())


def grouping_problem(policy: PolicyView) -> str | None:
    """Why the grouped way cannot be used with a model on its device; None if it can.

    The configuration tells of attention that looks at less than everything; the rest shows in a trial.
    """
    config = policy.config
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "its attention has a sliding window"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        return "some of its layers have no full attention"
    try:
        difference = _difference(policy)
    except Exception as error:
        return f"a trial failed ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    tolerance = 0.1 if policy.dtype in (torch.bfloat16, torch.float16) else 1e-4
    return None if difference < tolerance else f"a trial differed by {difference:.1e}"
