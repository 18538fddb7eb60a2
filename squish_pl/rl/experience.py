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
    rows = []
    for d, group in enumerate(groups):
        if skip[d]:
            continue
        prompt_ids = torch.tensor(group.prompt.token_ids)
        thought = group.thought_mask
        weight = 1.0 / (max(1, int((group.mask & ~thought).sum())) * len(groups))
        thought_weight = thought_share / (max(1, int(thought.sum())) * len(groups))
        for g in range(group.size):
            mask = group.mask[g]
            rows.append(
                Experience(
                    prompt_ids,
                    group.token_ids[g][mask],
                    group.log_probs[g][mask],
                    float(advantages[d, g]),
                    weight,
                    int(thought[g].sum()),
                    thought_weight,
                )
            )
    return rows


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
