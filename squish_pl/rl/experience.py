"""From rollouts and advantages to the rows that the policy passes learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from squish_pl.types import Experience, Rollouts


def make_experience(groups: Sequence[Rollouts], advantages: Tensor, skip: Tensor) -> list[Experience]:
    """Flattens D groups of G completions into rows.

    A skipped group still counts among the batch's documents, so leaving it out changes no gradient.

    Args:
        groups: D groups.
        advantages: [D, G].
        skip: [D] bool, groups that teach nothing.

    Returns:
        At most D * G rows, group by group.
    """
    rows = []
    for d, group in enumerate(groups):
        if skip[d]:
            continue
        prompt_ids = torch.tensor(group.prompt.token_ids)
        weight = 1.0 / (int(group.mask.sum()) * len(groups))
        for g in range(group.size):
            mask = group.mask[g]
            rows.append(
                Experience(
                    prompt_ids, group.token_ids[g][mask], group.log_probs[g][mask], float(advantages[d, g]), weight
                )
            )
    return rows


def micro_batches(rows: Sequence[Experience], size: int) -> Iterator[Sequence[Experience]]:
    """Slices of at most `size` rows."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
