"""Log-probs of chosen tokens from hidden states, sliced so that no [tokens, vocabulary] matrix is held.

The shift by one between a token and the position that predicts it lives in `predicting_slice` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SLICE_TOKENS = 512  #: rows of logits that are held at a time
_CPU_COLUMNS, _GPU_COLUMNS = 1024, 16_384  # logits of a tile: on a CPU they stay in its cache

HALF = (torch.bfloat16, torch.float16)

Head = Callable[[Tensor], Tensor]  #: [N, H] hidden states -> [N, V] logits


def predicting_slice(prefix_length: int, length: int) -> slice:
    """Positions whose outputs predict `length` tokens that stand behind `prefix_length` others in a row.

    The token at position i is predicted at position i - 1, so a prefix of at least one token is needed.
    """
    if prefix_length < 1:
        raise ValueError("a token can only be predicted from at least one token before it")
    return slice(prefix_length - 1, prefix_length - 1 + length)


def log_probs_of_logits(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-prob of each target and entropy of each distribution.

    Args:
        logits: [N, V] in any floating type; computed in float32 (float64 stays float64).
        targets: [N] int64.
        temperature: Logits are divided by it: the log-probs are of the distribution that is sampled from.

    Returns:
        ([N] ln p(target), [N] entropy), nats.
    """
    return _chosen_and_entropy(log_softmax(logits, temperature), targets)


def wide_logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """Logits of a linear head, in float32 where the weights are in half precision.

    A product of half-precision tensors adds up in float32 and is rounded only at its end, to steps of 1/16 for a
    bfloat16 logit of 10. Here it is not rounded: a card hands its float32 out, elsewhere the tensors are widened, a
    tile of the vocabulary at a time.

    Args:
        hidden: [..., H]; no gradients go through it.
        weight: [V, H].

    Returns:
        [..., V] in float32, or in the weights' own type if that is float32 or float64.
    """
    if weight.dtype not in HALF:
        return hidden @ weight.T
    rows = hidden.detach().reshape(-1, hidden.shape[-1]).to(weight.dtype)
    if rows.is_cuda:  # which alone has this product
        try:
            logits = torch.mm(rows, weight.T, out_dtype=torch.float32)
        except NotImplementedError:  # a build without it: rounded, as everywhere else
            logits = torch.mm(rows, weight.T).float()
    else:
        logits = rows.new_empty(len(rows), len(weight), dtype=torch.float32)
        rows = rows.float()
        for w, out in zip(weight.split(_CPU_COLUMNS), logits.split(_CPU_COLUMNS, dim=1), strict=True):
            torch.mm(rows, w.float().T, out=out)  # into a place of its own: autocast leaves that alone
    return logits.reshape(*hidden.shape[:-1], len(weight))


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """[N, V] logits in any floating type -> [N, V] ln p, in float32 (float64 stays float64)."""
    logits = _wide(logits)
    return torch.log_softmax(logits / temperature if temperature != 1.0 else logits, dim=-1)


def _chosen_and_entropy(log_p: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    chosen = log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen, -(log_p.exp() * _finite(log_p)).sum(dim=-1)


def _finite(log_p: Tensor) -> Tensor:
    # a masked-out logit of -inf has p = 0 and adds nothing to the entropy, where 0 * -inf would be NaN
    return log_p.clamp_min(torch.finfo(log_p.dtype).min)


class _FrozenHeadLogProbs(torch.autograd.Function):
    """Log-probs under a frozen linear head, their gradient made on the way forward.

    d ln p(t) / d hidden = (W[t] - sum_v p(v) W[v]) / temperature is [N, H], no larger than the hidden states: keeping
    it spares the backward pass from computing any logits again. Of a slice only the logits are held; all that is made
    of them comes and goes in tiles of the vocabulary, which on a CPU stay in its cache. Where it is asked for, so does
    d entropy / d hidden = -sum_v p(v) (ln p(v) + entropy) W[v] / temperature, at one more product a tile.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        slice_tokens: int,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        columns = _columns(hidden)
        log_probs, entropies, slopes, entropy_slopes = [], [], [], []
        for h, t in zip(hidden.split(slice_tokens), targets.split(slice_tokens), strict=True):
            tiles = wide_logits(h, weight).split(columns, dim=1)
            chosen, total = _chosen_and_total((_wide(tile) / temperature for tile in tiles), t)
            entropy, slope = torch.zeros_like(chosen), torch.zeros_like(h, dtype=chosen.dtype)
            entropy_slope = torch.zeros_like(slope)
            for number, (tile, w) in enumerate(zip(tiles, weight.split(columns), strict=True)):
                log_p = _wide(tile) / temperature - total.unsqueeze(1)
                surplus = log_p.exp()
                terms = surplus * _finite(log_p)
                entropy -= terms.sum(dim=-1)
                if entropy_gradient:
                    entropy_slope += terms.to(w.dtype) @ w
                # minus the chosen token in float32: in bfloat16, W[t] and p W of a sure token would cancel to nothing
                column, here = _column(t, number * columns, len(w))
                surplus.scatter_add_(1, column, -here.to(surplus).unsqueeze(1))
                slope += surplus.to(w.dtype) @ w
            if entropy_gradient:  # the entropy is known only now: its part is a multiple of the mean row, sum_v p W[v]
                entropy_slope += entropy.unsqueeze(1) * (slope + weight[t])
                entropy_slopes.append((entropy_slope / -temperature).to(h.dtype))
            slopes.append((slope / -temperature).to(h.dtype))
            log_probs.append(chosen - total)
            entropies.append(entropy)
        ctx.save_for_backward(torch.cat(slopes), torch.cat(entropy_slopes) if entropy_gradient else None)
        result = torch.cat(log_probs), torch.cat(entropies)
        if not entropy_gradient:
            ctx.mark_non_differentiable(result[1])
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor, entropy_grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes, entropy_slopes = ctx.saved_tensors
        grads = grad.unsqueeze(1) * slopes
        if entropy_slopes is not None:
            grads += entropy_grad.unsqueeze(1) * entropy_slopes
        return grads.to(slopes.dtype), None, None, None, None, None


def token_log_probs(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    temperature: float = 1.0,
    slice_tokens: int = SLICE_TOKENS,
    frozen_weight: Tensor | None = None,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies straight from hidden states, in slices of tokens.

    At most [slice_tokens, V] is held at a time: with a frozen linear head the gradient is made on the way forward,
    otherwise each slice is computed again in backward.

    Args:
        hidden: [N, H] hidden states at the positions that predict the targets.
        head: The output head.
        targets: [N] int64.
        temperature: See `log_probs_of_logits`.
        slice_tokens: Tokens a slice.
        frozen_weight: [V, H] of a linear head without bias that does not learn, if that is what `head` is.
        entropy_gradient: Whether the entropies carry a gradient as the log-probs do.

    Returns:
        ([N] ln p(target), [N] entropy), nats.
    """

    def one_slice(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        chosen, entropy = log_probs_of_logits(head(h), t, temperature)
        return chosen, entropy if entropy_gradient else entropy.detach()

    if frozen_weight is not None and len(targets) and torch.is_grad_enabled() and hidden.requires_grad:
        asked = temperature, slice_tokens, entropy_gradient
        return _FrozenHeadLogProbs.apply(hidden, frozen_weight, targets, *asked)
    pieces = []
    for h, t in zip(hidden.split(slice_tokens), targets.split(slice_tokens), strict=True):
        if torch.is_grad_enabled() and h.requires_grad:
            pieces.append(checkpoint(one_slice, h, t, use_reentrant=False))
        else:
            pieces.append(one_slice(h, t))
    if not pieces:
        empty = torch.zeros(0, dtype=torch.float32, device=hidden.device)
        return empty, empty
    chosen, entropies = zip(*pieces, strict=True)
    return torch.cat(chosen), torch.cat(entropies)


@torch.inference_mode()
def chosen_log_probs(
    hidden: Tensor, head: Head, targets: Tensor, slice_tokens: int = 1024, weight: Tensor | None = None
) -> Tensor:
    """Log-probs alone, without entropies and gradients: what scoring needs, at little more than the head's own cost.

    With a plain linear head its weights are taken in tiles of the vocabulary too, so that no row of logits is ever
    held whole.

    Args:
        hidden: [N, H] hidden states at the positions that predict the targets.
        head: The output head.
        targets: [N] int64.
        slice_tokens: Tokens a slice.
        weight: [V, H] of a linear head without bias, if that is what `head` is.

    Returns:
        [N] ln p(target), nats, in float32 (float64 stays float64).
    """
    columns = _columns(hidden)
    log_probs = [_wide(hidden.new_zeros(0))]
    for h, t in zip(hidden.split(slice_tokens), targets.split(slice_tokens), strict=True):
        tiles = (head(h),) if weight is None else (wide_logits(h, w) for w in weight.split(columns))
        chosen, total = _chosen_and_total((_wide(tile) for tile in tiles), t)
        log_probs.append(chosen - total)
    return torch.cat(log_probs)


def _columns(hidden: Tensor) -> int:
    return _CPU_COLUMNS if hidden.device.type == "cpu" else _GPU_COLUMNS


def _chosen_and_total(tiles: Iterable[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
    """([N] the targets' logits, [N] log of the sum of all exp(logits)) of tiles [N, v] that stand side by side."""
    sums, chosen, first = [], torch.zeros((), device=targets.device), 0
    for logits in tiles:
        sums.append(logits.logsumexp(dim=-1))
        column, here = _column(targets, first, logits.shape[-1])
        # no indexing by a mask: on a GPU that would wait for the mask
        chosen = torch.where(here, logits.gather(-1, column).squeeze(-1), chosen)
        first += logits.shape[-1]
    return chosen, torch.stack(sums).logsumexp(dim=0)


def _column(targets: Tensor, first: int, size: int) -> tuple[Tensor, Tensor]:
    """([N, 1] each target's column in a tile that starts at `first`, [N] whether it is in there)."""
    column = targets - first
    return column.clamp(0, size - 1).unsqueeze(-1), (column >= 0) & (column < size)
