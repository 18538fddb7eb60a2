"""Policy log-probs the grouped way: the prompt goes through the model once for all of its completions.

padded:   G rows of P + C tokens           grouped:   P + sum(C_i) tokens
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.group_attention import GroupLayout
from squish_pl.types import Experience, groups_of


def completion_log_probs(
    policy: PolicyView, rows: Sequence[Experience], temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probs of the generated tokens under the policy as it is now; see the padded way for the contract.

    Rows that follow one another and belong to one group share their prompt; all groups are one row of the model.
    """
    targets = torch.cat([row.completion_ids for row in rows]).to(policy.device)
    return policy.token_log_probs(_predicting_hidden(policy, rows), targets, temperature)


def pass_tokens(rows: Sequence[Experience]) -> int:
    """Tokens that go through the model in a pass over these rows."""
    # a completion's last token is only predicted, never read
    return sum(
        len(members[0].prompt_ids) + sum(len(row.completion_ids) - 1 for row in members) for members in groups_of(rows)
    )


def _predicting_hidden(policy: PolicyView, rows: Sequence[Experience]) -> Tensor:
    """[N, H] hidden states that predict the completions' tokens, one completion after another."""
    groups = list(groups_of(rows))
    prompts = [members[0].prompt_ids for members in groups]
    lengths = [[len(row.completion_ids) for row in members] for members in groups]
    read = [[row.completion_ids[:-1] for row in members] for members in groups]
    positions = [torch.arange(len(prompt)) for prompt in prompts]
    for prompt, members in zip(prompts, read, strict=True):
        positions += [len(prompt) + torch.arange(len(ids)) for ids in members]
    # a completion of one token has nothing to read and no place in the row
    sizes = [(len(prompt), [len(ids) for ids in m if len(ids)]) for prompt, m in zip(prompts, read, strict=True)]
    hidden = policy.packed_hidden(
        torch.cat([*prompts, *(ids for members in read for ids in members)]).to(policy.device),
        torch.cat(positions).to(policy.device),
        GroupLayout.of(sizes, policy.device),
    )
    return hidden[_predicting_places([len(prompt) for prompt in prompts], lengths).to(policy.device)]


def _predicting_places(prompts: Sequence[int], lengths: Sequence[Sequence[int]]) -> Tensor:
    """[N] places of the packed row that predict the completions' tokens.

    A completion's first token is predicted at its prompt's last place, the others at their predecessors' places.

    Args:
        prompts: Tokens of each prompt.
        lengths: Tokens of each prompt's completions.
    """
    places: list[int] = []
    end, start = 0, sum(prompts)
    for prompt, group in zip(prompts, lengths, strict=True):
        end += prompt
        for length in group:
            places += [end - 1, *range(start, start + length - 1)]
            start += length - 1
    return torch.tensor(places)
