"""From rollouts and advantages to the rows that the policy passes learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from squish_pl.types import Experience, Rollouts, groups_of


def make_experience(
    groups: Sequence[Rollouts], advantages: Tensor, skip: Tensor, thought_share: float = 1.0
) -> list[Experience]:
    """Flattens D groups of G completions into rows.

    A skipped group still counts among the batch's documents, so leaving it out changes no gradient. The tokens of a
    group's summaries share a weight of 1 / D, and those of its thoughts another one, however many they are.

    Args:
        groups: D groups.
        advantages: [D, G].
        skip: [D] bool, groups that teach nothing.
        thought_share: What a group's thoughts count beside its summaries, which count 1.

    Returns:
        At most D * G rows, group by group.
    """
    return [
        row
        for group, skipped, its in zip(groups, skip.tolist(), advantages.tolist(), strict=True)
        if not skipped
        for row in group_rows(group, range(group.size), its, len(groups), thought_share)
    ]


def group_rows(
    group: Rollouts, indices: Sequence[int], advantages: Sequence[float], documents: int, thought_share: float = 1.0
) -> list[Experience]:
    """Some completions of a group as rows, each token by its share in the loss.

    Args:
        group: G completions.
        indices: Of those that are learnt from.
        advantages: Of each of them.
        documents: How many share the loss.
        thought_share: See `make_experience`.
    """
    prompt_ids = torch.tensor(group.prompt.token_ids)
    chosen = list(indices)
    thoughts = group.thought_mask[chosen].sum(dim=1)
    summary_tokens, thought_tokens = int((group.lengths[chosen] - thoughts).sum()), int(thoughts.sum())
    weight = 1.0 / (max(1, summary_tokens) * documents)
    thought_weight = thought_share / (max(1, thought_tokens) * documents)
    return [
        Experience(
            prompt_ids,
            group.token_ids[g][group.mask[g]],
            group.log_probs[g][group.mask[g]],
            advantage,
            weight,
            thought,
            thought_weight,
        )
        for g, advantage, thought in zip(chosen, advantages, thoughts.tolist(), strict=True)
    ]


def micro_batches(
    rows: Sequence[Experience],
    cost: Callable[[Sequence[Experience]], int],
    most: int,
    whole: int | None = None,
) -> Iterator[list[Experience]]:
    """Slices by a token budget: as many groups as fit, or as many completions of one group.

    Args:
        rows: Group by group.
        cost: Tokens that a pass over some rows runs through the model.
        most: Most of them in a slice; a single completion may take more.
        whole: Most of them in a slice of several groups, where that is less.
    """
    whole = most if whole is None else min(whole, most)
    batch: list[Experience] = []
    for group in groups_of(rows):
        if batch and cost(batch + group) > whole:
            yield batch
            batch = []
        if batch or cost(group) <= most:
            batch += group
            continue
        for row in group:  # too long for one slice
            if batch and cost([*batch, row]) > most:
                yield batch
                batch = []
            batch.append(row)
        yield batch
        batch = []
    if batch:
        yield batch
