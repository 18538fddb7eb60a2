"""Decoding behind shared prompts: a prompt's keys and values once for its group, and buffers for what each row writes.

A step's attention is one call of all rows on their prompts and one of each row on its own tokens, mixed by their
log-sum-exps (see `prefix_attention`):

    out = own + sigmoid(lse_prompt - lse_own) * (prompt - own)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from squish_pl.policy.fused_step import FusedStep
from squish_pl.policy.passes import Decoder
from squish_pl.policy.prefix_attention import RowSpans, flash_attention, flash_attention_of_rows, no_mask
from squish_pl.types import Prompt

_FIRST_ROOM = 64  #: tokens a row's buffers begin with


class SharedPrefixDecoder(Decoder):
    """Needs a model whose attention goes through `shared_prefix_attention_forward`; a step is fused where it can be."""

    fuses: ClassVar[bool] = True  #: whether layers run fused where this is known of them

    def __init__(self, model: PreTrainedModel, group_size: int, max_new_tokens: int) -> None:
        super().__init__(model, group_size, max_new_tokens)
        self._step: FusedStep | None = None
        if self.fuses:
            with suppress(NotImplementedError):  # else the model's own layers take the step
                self._step = FusedStep(model)

    def prefill(self, prompts: Sequence[Prompt]) -> Tensor:
        lengths = [len(prompt.token_ids) for prompt in prompts]
        self._spans = RowSpans.of([self.group_size] * len(prompts), lengths, self.device)
        self._prompts: dict[int, tuple[Tensor, Tensor]] = {}  # [T, Hkv, D] of all prompts, one after another
        self._own: dict[int, Tensor] = {}  # [R, 2 * Hkv, room, D], keys and then values
        self._length = 0
        self._read = 0  # tokens of prompts read so far
        last = []
        for prompt in prompts:  # one by one: no padding
            ids = torch.tensor([prompt.token_ids], device=self.device)
            last.append(self.model(input_ids=ids, use_cache=False, logits_to_keep=1, prefix_decoder=self).logits[:, -1])
            self._read += len(prompt.token_ids)
        positions = torch.tensor(lengths, device=self.device)
        rows = self.group_size * len(prompts)
        self._position = positions.repeat_interleave(self.group_size, output_size=rows).unsqueeze(1)
        logits = torch.cat(last)
        return logits.repeat_interleave(self.group_size, dim=0, output_size=rows)

    def step(self, tokens: Tensor) -> Tensor:
        self._length += 1
        if self._step is not None:
            logits = self._step(tokens, self._position, self._attend_rows)
        else:
            logits = self.model(
                input_ids=tokens.unsqueeze(1),
                attention_mask=no_mask(self.device),
                position_ids=self._position,
                use_cache=False,
                logits_to_keep=1,
                prefix_decoder=self,
            ).logits[:, -1]
        self._position = self._position + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        counts = self._spans.rows
        owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        left = torch.bincount(owner[rows], minlength=len(counts)).tolist()
        self._spans = RowSpans.of(left, self._spans.keys, self.device)
        rows = rows.to(self.device)
        for layer in self._own:  # one tensor at a time: all of them together would be held twice
            self._own[layer] = self._own[layer][rows]
        self._position = self._position[rows]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """One layer's attention, called by the attention function: [B, H, L, D] -> [B, Hq, L, D]."""
        if self._length == 0:  # a prompt
            self._store(layer, k, v)
            return flash_attention(q, k, v, True, scale)[0]
        return self._attend_rows(layer, q[:, :, 0], torch.cat([k, v], dim=1)[:, :, 0], scale).unsqueeze(2)

    def _attend_rows(self, layer: int, q: Tensor, kv: Tensor, scale: float) -> Tensor:
        """[R, Hq, D] queries, [R, 2 * Hkv, D] keys and values of this step's tokens -> [R, Hq, D]."""
        own_kv = self._own[layer] = self._with_room(self._own.get(layer), kv)
        own_kv[:, :, self._length - 1] = kv
        own_k, own_v = own_kv[:, :, : self._length].chunk(2, dim=1)
        out, lse = flash_attention_of_rows(q, *self._prompts[layer], self._spans, scale)
        own, own_lse = flash_attention(q.unsqueeze(2), own_k, own_v, False, scale)
        own, own_lse = own[:, :, 0], own_lse[:, :, 0]
        # rounded to the outputs' type the weight is as exact as they are
        weight = torch.sigmoid(lse - own_lse, out=torch.empty_like(own[..., 0]))
        return torch.lerp(own, out, weight.unsqueeze(-1))

    def _store(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Keeps the keys and values of the prompt in hand, [1, Hkv, P, D], behind those before."""
        if layer not in self._prompts:
            shape = sum(self._spans.keys), k.shape[1], k.shape[3]
            self._prompts[layer] = k.new_empty(shape), v.new_empty(shape)
        for held, new in zip(self._prompts[layer], (k, v), strict=True):
            held[self._read : self._read + new.shape[2]] = new[0].transpose(0, 1)

    def _with_room(self, buffer: Tensor | None, new: Tensor) -> Tensor:
        """A buffer [R, H, at least the tokens written so far, D]; it doubles, since most rows end early."""
        if buffer is not None and buffer.shape[2] >= self._length:
            return buffer
        written = self._length - 1
        rows, heads, size = new.shape
        larger = new.new_empty(rows, heads, min(self.max_new_tokens, max(_FIRST_ROOM, 2 * written)), size)
        if buffer is not None:
            larger[:, :, :written] = buffer[:, :, :written]
        return larger


class PlainStepDecoder(SharedPrefixDecoder):
    """The same with the model's own layers in every step."""

    fuses = False
