"""Policy log-probs the padded way: every completion is a row of its own behind its prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from squish_pl.log_probs import predicting_slice
from squish_pl.policy.backbone import PolicyView
from squish_pl.types import Experience, pad_rows


def completion_log_probs(
    policy: PolicyView, rows: Sequence[Experience], temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probs of the generated tokens under the policy as it is now.

    Args:
        policy: The model with its adapter on.
        rows: B completions with their prompts, of any lengths, from any groups.
        temperature: The one they were sampled with.

    Returns:
        ([N] log-probs with gradients to the adapter, [N] entropies without), nats, the rows' tokens one after another.
    """
    # padded on the right, where causal attention does not look: no mask
    texts = [torch.cat([row.prompt_ids, row.completion_ids[:-1]]) for row in rows]
    hidden = policy.hidden(pad_rows(texts).to(policy.device))
    wanted = [hidden[i, predicting_slice(len(row.prompt_ids), len(row.completion_ids))] for i, row in enumerate(rows)]
    targets = torch.cat([row.completion_ids for row in rows]).to(policy.device)
    return policy.token_log_probs(torch.cat(wanted), targets, temperature)


def pass_tokens(rows: Sequence[Experience]) -> int:
    """Tokens that go through the model in a pass over these rows, padding included."""
    return len(rows) * max(len(row.prompt_ids) + len(row.completion_ids) - 1 for row in rows)
