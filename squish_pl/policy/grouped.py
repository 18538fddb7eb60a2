"""Policy log-probs the grouped way: the prompt goes through the model once for all of its completions.

padded:   G rows of P + C tokens           grouped:   one row of P + sum(C_i) tokens
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.group_attention import GroupLayout
from squish_pl.types import Experience


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
