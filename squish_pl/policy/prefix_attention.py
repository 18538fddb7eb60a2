"""Exact attention over groups laid out as one row: [prompt 1, ..., prompt D, their completions].

A prompt is causal on itself; each completion sees its whole prompt and, causally, itself, and nothing else:

                 prompt   c1    c2
        prompt   causal
        c1       full   causal
        c2       full          causal

so every projection, norm and MLP of the model runs over P + sum(C_i) tokens a group instead of G * (P + C). A
completion's attention is two flash-attention calls, on its prompt's keys and on its own, merged by their log-sum-exps:

    lse = log(exp(lse_1) + exp(lse_2)),    out = exp(lse_1 - lse) * out_1 + exp(lse_2 - lse) * out_2

The backward pass calls each part's flash backward with the merged output and log-sum-exp, from which it recovers
the merged probabilities of its own keys; the two query gradients add up. (Autograd through the merge would be wrong:
the kernels ignore the gradient of their log-sum-exp.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PrefixLayout:
    """Who stands where in a packed row; tensors only, so that it passes through checkpointing and compile.

    Attributes:
        groups: [D, 2] int64 on the CPU, tokens of each prompt and of all its completions together.
        pad: [B, C] int64, for each place of the B padded completions the token's index among the N completion tokens;
            0 where there is none.
        unpad: [N] int64, each completion token's place in the flattened [B * C].
    """

    groups: Tensor
    pad: Tensor
    unpad: Tensor

    @classmethod
    def of(cls, groups: Sequence[tuple[int, Sequence[int]]], device: torch.device) -> PrefixLayout:
        """The layout of groups given as (prompt length, lengths of its completions)."""
        counts = torch.tensor([n for _, lengths in groups for n in lengths], dtype=torch.long)
        valid = torch.arange(int(counts.max()) if len(counts) else 0) < counts.unsqueeze(1)
        pad = torch.zeros(valid.shape, dtype=torch.long)
        pad[valid] = torch.arange(int(counts.sum()))
        sizes = torch.tensor([(p, sum(lengths)) for p, lengths in groups])
        return cls(sizes, pad.to(device), valid.flatten().nonzero().squeeze(1).to(device))


def flash_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """[B, Hq, L, D] queries, [B, Hkv, S, D] keys and values -> (output, log-sum-exp [B, Hq, L])."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)
    return out, lse


def flash_attention_of_rows(q: Tensor, k: Tensor, v: Tensor, spans: RowSpans, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of rows of one query each on the keys of their own sequence, not causal; on a card in one call.

    Args:
        q: [R, Hq, D], the rows of the first sequence, then those of the second, and so on.
        k: [T, Hkv, D], the sequences one after another.
        v: [T, Hkv, D].
        spans: Who belongs where.
        scale: Factor on the products of queries and keys.

    Returns:
        ([R, Hq, D] output, [R, Hq] log-sum-exp).
    """
    if q.device.type != "cpu":
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            q,
            k,
            v,
            spans.rows_before,
            spans.keys_before,
            spans.most_rows,
            spans.most_keys,
            0.0,
            False,
            False,
            scale=scale,
        )
        return out, lse.T
    sequences = zip(*(x.split(sizes) for x, sizes in ((q, spans.rows), (k, spans.keys), (v, spans.keys))), strict=True)
    parts = []
    for q_, k_, v_ in sequences:
        if len(q_):
            q_, k_, v_ = (x.transpose(0, 1).unsqueeze(0) for x in (q_, k_, v_))
            parts.append(flash_attention(q_, k_, v_, False, scale))
    outs, lses = zip(*parts, strict=True)
    return torch.cat(outs, dim=2)[0].transpose(0, 1), torch.cat(lses, dim=2)[0].T


@dataclass(frozen=True, slots=True)
class RowSpans:
    """How many rows and keys each sequence has, on the host and, added up, on the device.

    Attributes:
        rows: Of each sequence.
        keys: Of each sequence.
        rows_before: [sequences + 1] int32.
        keys_before: [sequences + 1] int32.
    """

    rows: list[int]
    keys: list[int]
    rows_before: Tensor
    keys_before: Tensor

    @classmethod
    def of(cls, rows: Sequence[int], keys: Sequence[int], device: torch.device) -> RowSpans:
        """The spans of sequences with so many rows and keys."""
        sums = (torch.tensor([0, *accumulate(counts)], dtype=torch.int32).to(device) for counts in (rows, keys))
        return cls(list(rows), list(keys), *sums)

    @property
    def most_rows(self) -> int:
        """Of any sequence."""
        return max(self.rows)

    @property
    def most_keys(self) -> int:
        """Of any sequence."""
        return max(self.keys)


def no_mask(device: torch.device) -> Tensor:
    """What to pass for a mask with a layout or decoder: its four dimensions tell transformers not to build one."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def flash_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values; `out` and `lse` may be of a softmax over more keys than these."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, causal, scale=scale
        )
    nothing = torch.zeros((), dtype=torch.int64, device=q.device)  # no dropout, so no random state
    lengths = q.shape[2], k.shape[2]
    return torch.ops.aten._scaled_dot_product_flash_attention_backward(
        grad, q, k, v, out, lse, None, None, *lengths, 0.0, causal, nothing, nothing, scale=scale
    )


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention on two sets of keys from the (output [..., D], log-sum-exp [...]) on each."""
    (out_1, lse_1), (out_2, lse_2) = one, other
    lse = torch.logaddexp(lse_1, lse_2)
    out = out_1 * (lse_1 - lse).exp().unsqueeze(-1) + out_2 * (lse_2 - lse).exp().unsqueeze(-1)
    return out.to(out_1.dtype), lse


def _padded(x: Tensor, pad: Tensor) -> Tensor:
    """[1, H, N, ...] -> [G, H, C, ...]."""
    return x[0][:, pad].transpose(0, 1).contiguous()


def _packed(x: Tensor, unpad: Tensor) -> Tensor:
    """[G, H, C, ...] -> [1, H, N, ...]."""
    return x.transpose(0, 1).flatten(1, 2)[:, unpad].unsqueeze(0)


def _spans(groups: Tensor) -> list[tuple[slice, slice]]:
    """Where each prompt and its completions stand in the row."""
    spans = []
    p, c = 0, int(groups[:, 0].sum())
    for prompt, completions in groups.tolist():
        spans.append((slice(p, p + prompt), slice(c, c + completions)))
        p, c = p + prompt, c + completions
    return spans


@torch.library.custom_op("squish_pl::shared_prefix_attention", mutates_args=())
def shared_prefix_attention(
    q: Tensor, k: Tensor, v: Tensor, groups: Tensor, pad: Tensor, unpad: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of one packed row of P prompt tokens and N completion tokens in all.

    Args:
        q: [1, Hq, P + N, D].
        k: [1, Hkv, P + N, D]; Hq a multiple of Hkv.
        v: [1, Hkv, P + N, D].
        groups: See `PrefixLayout`.
        pad: See `PrefixLayout`.
        unpad: See `PrefixLayout`.
        scale: Factor on the products of queries and keys.

    Returns:
        ([1, Hq, P + N, D] output, [1, Hq, P + N] log-sum-exp).
    """
    p = q.shape[2] - unpad.shape[0]
    on_prompts, across = [], []
    for prompt, completions in _spans(groups):
        prompt_k, prompt_v = k[:, :, prompt], v[:, :, prompt]
        on_prompts.append(flash_attention(q[:, :, prompt], prompt_k, prompt_v, True, scale))
        if completions.stop > completions.start:
            across.append(flash_attention(q[:, :, completions], prompt_k, prompt_v, False, scale))
    parts = on_prompts
    if across:
        out_1, lse_1 = (torch.cat(x, dim=2) for x in zip(*across, strict=True))
        own_q, own_k, own_v = (_padded(x[:, :, p:], pad) for x in (q, k, v))
        out_2, lse_2 = (_packed(x, unpad) for x in flash_attention(own_q, own_k, own_v, True, scale))
        parts = [*on_prompts, merge((out_1, lse_1), (out_2, lse_2))]
    out, lse = (torch.cat(x, dim=2) for x in zip(*parts, strict=True))
    return out, lse


@shared_prefix_attention.register_fake
def _(q: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    lse_dtype = q.dtype if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=lse_dtype)


@torch.library.custom_op("squish_pl::shared_prefix_attention_backward", mutates_args=())
def shared_prefix_attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    groups: Tensor,
    pad: Tensor,
    unpad: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    p = q.shape[2] - unpad.shape[0]
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    if unpad.shape[0]:
        valid = torch.zeros(pad.numel(), dtype=grad.dtype, device=grad.device).index_fill(0, unpad, 1).view(*pad.shape)
        # what fills the padding is a copy of a real token: it must send no gradient back
        own_grad = _padded(grad[:, :, p:], pad) * valid[:, None, :, None]
        own_q, own_k, own_v, own_out, own_lse = (_padded(x[:, :, p:], pad) for x in (q, k, v, out, lse))
        own_gradients = flash_attention_backward(own_grad, own_q, own_k, own_v, own_out, own_lse, True, scale)
        for target, own_gradient in zip((dq, dk, dv), own_gradients, strict=True):
            target[:, :, p:] = _packed(own_gradient, unpad)
    for prompt, completions in _spans(groups):
        keys = k[:, :, prompt], v[:, :, prompt]

        def backward(part: slice, causal: bool, keys: tuple[Tensor, Tensor] = keys) -> tuple[Tensor, Tensor, Tensor]:
            g, q_, out_, lse_ = (x[:, :, part].contiguous() for x in (grad, q, out, lse))
            return flash_attention_backward(g, q_, *keys, out_, lse_, causal, scale)

        dq[:, :, prompt], dk[:, :, prompt], dv[:, :, prompt] = backward(prompt, True)
        if completions.stop > completions.start:
            dq_1, dk_1, dv_1 = backward(completions, False)
            dq[:, :, completions] += dq_1
            dk[:, :, prompt] += dk_1
            dv[:, :, prompt] += dv_1
    return dq, dk, dv


@shared_prefix_attention_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, groups, pad, unpad, scale = inputs
    ctx.save_for_backward(q, k, v, *output, groups, pad, unpad)
    ctx.scale = scale


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dq, dk, dv = shared_prefix_attention_backward(grad.contiguous(), *ctx.saved_tensors, ctx.scale)
    return dq, dk, dv, None, None, None, None


shared_prefix_attention.register_autograd(_differentiate, setup_context=_save)
