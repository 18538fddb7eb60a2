"""Decoders: how the next token's logits of many rows are had, step by step.

    PaddedDecoder    the library's cache, prompts padded on the left and repeated for every row: works with any model
    GroupedDecoder   a prompt's keys and values are held once for its whole group; completions have buffers of their own

Both speak of rows: the G completions of the first prompt, then those of the second, and so on. A row that has ended
leaves, and the others move up.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from squish_pl.policy.group_attention import flash_attention, merge, no_mask
from squish_pl.types import Prompt

_FIRST_ROOM = 64  #: tokens a row's buffers begin with


class Decoder(abc.ABC):
    """Rows of one decoding run.

    Args:
        model: In evaluation mode, adapter on.
        group_size: G, rows a prompt.
        max_new_tokens: Most steps.
    """

    def __init__(self, model: PreTrainedModel, group_size: int, max_new_tokens: int) -> None:
        self.model, self.group_size, self.max_new_tokens = model, group_size, max_new_tokens
        self.device = next(model.parameters()).device

    @abc.abstractmethod
    def prefill(self, prompts: Sequence[Prompt]) -> Tensor:
        """Reads the prompts and returns the logits of every row's first token, [D * G, V]."""

    @abc.abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """Reads a token [R] for each row that is left and returns the logits of the next, [R, V]."""

    @abc.abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Leaves only these of the rows there are, [R'] increasing indices."""


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
        rows = torch.arange(len(prompts), device=self.device).repeat_interleave(self.group_size)
        self.keep(rows)
        return output.logits[rows, -1]

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
        # layers of linear attention know this one too; its annotation names a legacy tensor type
        self._cache.reorder_cache(rows)  # type: ignore[arg-type]
        self._mask, self._position = self._mask[rows], self._position[rows]


class GroupedDecoder(Decoder):
    """A prompt's keys and values once for its group, and buffers for what each row writes, allocated ahead.

    A step's attention is two calls, one of a group's rows on their prompt and one of each row on its own tokens,
    merged by their log-sum-exps (see `group_attention`). Needs a model whose attention goes through the group
    attention function.
    """

    def prefill(self, prompts: Sequence[Prompt]) -> Tensor:
        self._prompts: list[dict[int, tuple[Tensor, Tensor]]] = []
        self._own: dict[int, tuple[Tensor, Tensor]] = {}
        self._rows = [self.group_size] * len(prompts)  # rows left of each prompt
        self._length = 0
        last = []
        for prompt in prompts:  # one by one: no padding
            self._prompts.append({})
            ids = torch.tensor([prompt.token_ids], device=self.device)
            last.append(self.model(input_ids=ids, use_cache=False, logits_to_keep=1, group_decoder=self).logits[:, -1])
        lengths = torch.tensor([len(prompt.token_ids) for prompt in prompts], device=self.device)
        self._position = lengths.repeat_interleave(self.group_size).unsqueeze(1)
        return torch.cat(last).repeat_interleave(self.group_size, dim=0)

    def step(self, tokens: Tensor) -> Tensor:
        self._length += 1
        output = self.model(
            input_ids=tokens.unsqueeze(1),
            attention_mask=no_mask(self.device),
            position_ids=self._position,
            use_cache=False,
            logits_to_keep=1,
            group_decoder=self,
        )
        self._position = self._position + 1
        return output.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        owner = torch.repeat_interleave(torch.arange(len(self._rows)), torch.tensor(self._rows))
        self._rows = torch.bincount(owner[rows.cpu()], minlength=len(self._rows)).tolist()
        self._own = {layer: (k[rows], v[rows]) for layer, (k, v) in self._own.items()}
        self._position = self._position[rows]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """One layer's attention, called by the attention function: [B, H, L, D] -> [B, Hq, L, D]."""
        if self._length == 0:  # a prompt
            self._prompts[-1][layer] = (k, v)
            return flash_attention(q, k, v, True, scale)[0]
        before_k, before_v = self._own.get(layer, (None, None))
        own_k, own_v = self._own[layer] = self._with_room(before_k, k), self._with_room(before_v, v)
        own_k[:, :, self._length - 1 : self._length] = k
        own_v[:, :, self._length - 1 : self._length] = v
        own = flash_attention(q, own_k[:, :, : self._length], own_v[:, :, : self._length], False, scale)
        on_prompts = [
            # a group's rows are the queries of one call: [R, H, 1, D] -> [1, H, R, D]
            flash_attention(rows.transpose(0, 2), *prompt[layer], False, scale)
            for rows, prompt in zip(q.split(self._rows), self._prompts, strict=True)
            if len(rows)
        ]
        out = torch.cat([out for out, _ in on_prompts], dim=2).transpose(0, 2)
        lse = torch.cat([lse for _, lse in on_prompts], dim=2).transpose(0, 2)
        return merge((out, lse), own)[0]

    def _with_room(self, buffer: Tensor | None, new: Tensor) -> Tensor:
        """A buffer [R, H, at least the tokens written so far, D]; it doubles, since most rows end early."""
        if buffer is not None and buffer.shape[2] >= self._length:
            return buffer
        written = self._length - 1
        rows, heads, _, size = new.shape
        larger = new.new_empty(rows, heads, min(self.max_new_tokens, max(_FIRST_ROOM, 2 * written)), size)
        if buffer is not None:
            larger[:, :, :written] = buffer[:, :, :written]
        return larger
