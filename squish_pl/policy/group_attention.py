"""Exact attention over a group laid out as one row: [prompt, c1, ..., cG].

The prompt is causal on itself; each completion sees the whole prompt and, causally, itself, and nothing else:

                 prompt   c1    c2
        prompt   causal
        c1       full   causal
        c2       full          causal

so every projection, norm and MLP of the model runs over P + sum(C_i) tokens instead of G * (P + C). A completion's
attention is two flash-attention calls, one on the prompt's keys and one on its own, merged by their log-sum-exps:

    lse = log(exp(lse_1) + exp(lse_2)),    out = exp(lse_1 - lse) * out_1 + exp(lse_2 - lse) * out_2

The backward pass calls each part's flash backward with the merged output and log-sum-exp, from which it recovers
the merged probabilities of its own keys; the two query gradients add up. (Autograd through the merge would be wrong:
the kernels ignore the gradient of their log-sum-exp.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from squish_pl.policy.decoding import GroupedDecoder

ATTENTION = "squish_group"  #: the name under which transformers finds `group_attention_forward`
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux")


@dataclass(frozen=True, slots=True)
class GroupLayout:
    """Where the completions of a packed row stand; tensors only, so that it passes through checkpointing and compile.

    Attributes:
        pad: [G, C] int64, for each place of the padded completions the token's index among the N completion tokens;
            0 where there is none.
        unpad: [N] int64, each completion token's place in the flattened [G * C].
    """

    pad: Tensor
    unpad: Tensor

    @classmethod
    def of(cls, lengths: list[int], device: torch.device) -> GroupLayout:
        """The layout of completions of these lengths, one after another."""
        counts = torch.tensor(lengths)
        valid = torch.arange(int(counts.max())) < counts.unsqueeze(1)
        pad = torch.zeros(valid.shape, dtype=torch.long)
        pad[valid] = torch.arange(int(counts.sum()))
        return cls(pad.to(device), valid.flatten().nonzero().squeeze(1).to(device))


def flash_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """[B, Hq, L, D] queries, [B, Hkv, S, D] keys and values -> (output, log-sum-exp [B, Hq, L])."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)
    return out, lse


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


def no_mask(device: torch.device) -> Tensor:
    """What to pass for a mask with a layout or decoder: its four dimensions tell transformers not to build one."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


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


@torch.library.custom_op("squish_pl::group_attention", mutates_args=())
def group_attention(q: Tensor, k: Tensor, v: Tensor, pad: Tensor, unpad: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of one packed row.

    Args:
        q: [1, Hq, P + N, D].
        k: [1, Hkv, P + N, D]; Hq a multiple of Hkv.
        v: [1, Hkv, P + N, D].
        pad: See `GroupLayout`.
        unpad: See `GroupLayout`.
        scale: Factor on the products of queries and keys.

    Returns:
        ([1, Hq, P + N, D] output, [1, Hq, P + N] log-sum-exp).
    """
    p = q.shape[2] - unpad.shape[0]
    prompt_k, prompt_v = k[:, :, :p], v[:, :, :p]
    out_p, lse_p = flash_attention(q[:, :, :p], prompt_k, prompt_v, True, scale)
    out_1, lse_1 = flash_attention(q[:, :, p:], prompt_k, prompt_v, False, scale)
    own_q, own_k, own_v = (_padded(x[:, :, p:], pad) for x in (q, k, v))
    out_2, lse_2 = (_packed(x, unpad) for x in flash_attention(own_q, own_k, own_v, True, scale))
    merged, lse = merge((out_1, lse_1), (out_2, lse_2))
    return torch.cat([out_p, merged], dim=2), torch.cat([lse_p, lse], dim=2)


@group_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, pad: Tensor, unpad: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    lse_dtype = q.dtype if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=lse_dtype)


@torch.library.custom_op("squish_pl::group_attention_backward", mutates_args=())
def group_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, pad: Tensor, unpad: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    p = q.shape[2] - unpad.shape[0]
    prompt_k, prompt_v = k[:, :, :p], v[:, :, :p]
    ours = (grad, q, out, lse)
    grad_p, q_p, out_p, lse_p = (x[:, :, :p].contiguous() for x in ours)
    grad_c, q_c, out_c, lse_c = (x[:, :, p:].contiguous() for x in ours)
    dq_p, dk_p, dv_p = flash_attention_backward(grad_p, q_p, prompt_k, prompt_v, out_p, lse_p, True, scale)
    dq_1, dk_1, dv_1 = flash_attention_backward(grad_c, q_c, prompt_k, prompt_v, out_c, lse_c, False, scale)
    valid = torch.zeros(pad.numel(), dtype=grad.dtype, device=grad.device).index_fill(0, unpad, 1).view(*pad.shape)
    # what fills the padding is a copy of a real token: it must send no gradient back
    own_grad = _padded(grad_c, pad) * valid[:, None, :, None]
    own_q, own_k, own_v, own_out, own_lse = (_padded(x, pad) for x in (q_c, k[:, :, p:], v[:, :, p:], out_c, lse_c))
    own_gradients = flash_attention_backward(own_grad, own_q, own_k, own_v, own_out, own_lse, True, scale)
    dq_2, dk_2, dv_2 = (_packed(x, unpad) for x in own_gradients)
    return (
        torch.cat([dq_p, dq_1 + dq_2], dim=2),
        torch.cat([dk_p + dk_1, dk_2], dim=2),
        torch.cat([dv_p + dv_1, dv_2], dim=2),
    )


@group_attention_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, pad: Tensor, unpad: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, pad, unpad, scale = inputs
    ctx.save_for_backward(q, k, v, *output, pad, unpad)
    ctx.scale = scale


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dq, dk, dv = group_attention_backward(grad.contiguous(), *ctx.saved_tensors, ctx.scale)
    return dq, dk, dv, None, None, None


group_attention.register_autograd(_differentiate, setup_context=_save)


def group_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    group_layout: GroupLayout | None = None,
    group_decoder: GroupedDecoder | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: grouped where the call carries a layout or decoder, else its own SDPA.

    Raises:
        NotImplementedError: With one, the model asks for more than plain full attention.
    """
    if group_layout is None and group_decoder is None:
        kwargs |= {"dropout": dropout, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    asked = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if asked or dropout:
        raise NotImplementedError(f"group attention has no {', '.join(asked) or 'dropout'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if group_decoder is not None:
        out = group_decoder.attend(int(cast(Any, module).layer_idx), query, key, value, scale)
    else:
        assert group_layout is not None
        out, _ = group_attention(query, key, value, group_layout.pad, group_layout.unpad, scale)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, group_attention_forward)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)  # for the calls without a layout
