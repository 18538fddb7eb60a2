"""The padded way: every completion is a row of its own behind its prompt. Works with any model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from squish_pl.lm.log_probs import predicting_slice
from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.passes import Decoder, Passes
from squish_pl.types import Experience, Prompt, pad_rows


class PaddedDecoder(Decoder):
    """Prompts padded on the left in the library's cache, which is repeated for every row."""

    def prefill(self, prompts: Sequence[Prompt]) -> Tensor:
        width = max(len(prompt.token_ids) for prompt in prompts)
        input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros(len(prompts), width, dtype=torch.long)
        for i, prompt in enumerate(prompts):
            input_ids[i, width - len(prompt.token_ids) :] = torch.tensor(prompt.token_ids)
            mask[i, width - len(prompt.token_ids) :] = 1
        mask = mask.to(self.device)
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
        self._cache = DynamicCache(config=self.model.config)
        output = self.model(
            input_ids=input_ids.to(self.device),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            logits_to_keep=1,
        )
        self._mask, self._position = mask, positions[:, -1:]
        rows = torch.arange(len(prompts)).repeat_interleave(self.group_size)
        self.keep(rows)
        return output.logits[rows.to(self.device), -1]

    def step(self, tokens: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._position = self._position + 1
        output = self.model(
            input_ids=tokens.unsqueeze(1),
            attention_mask=self._mask,
            position_ids=self._position,
            past_key_values=self._cache,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        rows = rows.to(self.device)
        # layers of linear attention know this one too; its annotation names a legacy tensor type
        self._cache.reorder_cache(rows)  # type: ignore[arg-type]
        self._mask, self._position = self._mask[rows], self._position[rows]


class PaddedPasses(Passes):
    """Rows of [prompt, completion], padded on the right.

    Args:
        policy: The model with its adapter on.
    """

    name = "padded"
    decoder = PaddedDecoder

    def __init__(self, policy: PolicyView) -> None:
        self._policy = policy

    def log_probs(
        self, rows: Sequence[Experience], temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        policy = self._policy
        # padded on the right, where causal attention does not look: no mask
        texts = [torch.cat([row.prompt_ids, row.completion_ids[:-1]]) for row in rows]
        hidden = policy.hidden(pad_rows(texts).to(policy.device))
        wanted = [hidden[i, predicting_slice(len(r.prompt_ids), len(r.completion_ids))] for i, r in enumerate(rows)]
        targets = torch.cat([row.completion_ids for row in rows]).to(policy.device)
        return policy.token_log_probs(torch.cat(wanted), targets, temperature, entropy_gradient)

    def tokens(self, rows: Sequence[Experience]) -> int:
        return len(rows) * max(len(row.prompt_ids) + len(row.completion_ids) - 1 for row in rows)

    def measured_hidden(self, token_ids: Tensor) -> Tensor:
        return self._policy.hidden(token_ids.view(2, -1)).flatten(0, 1)

    def prompts_held(self, prompts: int, rows: int) -> tuple[int, int]:
        # all prompts are read in one pass, and each is held once for every row
        return prompts, rows
