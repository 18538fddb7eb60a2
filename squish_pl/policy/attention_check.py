"""The shared-prefix operator against plain mathematics, in the type and shape in which a model will use it.

In half precision whole passes of two right ways differ by some per cent in their gradients, which hides a wrong one.
The operator by itself does not: it is off by its roundings, a few thousandths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from squish_pl.policy.prefix_attention import PrefixLayout, shared_prefix_attention

TOLERANCES = {torch.bfloat16: 1.5e-2, torch.float16: 5e-3, torch.float32: 1e-4, torch.float64: 1e-9}
"""Most that a right operator is off, relative to the norm of what it should give."""

_GROUPS = ((150, (70, 1, 33)), (20, (5, 90)))  # beyond the kernels' tiles of 64 and 128


def operator_error(heads: int, key_heads: int, size: int, dtype: torch.dtype, device: torch.device) -> float:
    """The largest relative error of the operator's output and gradients, each on prompts and on completions.

    Args:
        heads: Query heads.
        key_heads: Key and value heads.
        size: Numbers of a head.
        dtype: Of queries, keys and values.
        device: Where it runs; what it should give is computed on the CPU in float64.
    """
    prompts, total = sum(p for p, _ in _GROUPS), sum(p + sum(lengths) for p, lengths in _GROUPS)
    generator = torch.Generator().manual_seed(0)

    def draw(h: int) -> Tensor:
        return torch.randn(1, h, total, size, generator=generator, dtype=torch.float64).to(dtype)

    # twice as large as usual: a softmax that chooses
    inputs, grad = (2 * draw(heads), draw(key_heads), draw(key_heads)), draw(heads)
    with torch.enable_grad():
        given = [x.to(device).requires_grad_() for x in inputs]
        layout = PrefixLayout.of(_GROUPS, device)
        out, _ = shared_prefix_attention(*given, layout.groups, layout.pad, layout.unpad, size**-0.5)
        got = (out, *torch.autograd.grad(out, given, grad.to(device)))
        exact = [x.double().requires_grad_() for x in inputs]
        out = plain_attention(exact[0], exact[1], exact[2], _GROUPS, size**-0.5)
        expected = (out, *torch.autograd.grad(out, exact, grad.double()))
    pairs = [(g.detach().cpu().double(), e.detach()) for g, e in zip(got, expected, strict=True)]
    halves = [(g[:, :, part], e[:, :, part]) for g, e in pairs for part in (slice(prompts), slice(prompts, None))]
    return max(float((g - e).norm() / e.norm()) for g, e in halves)


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, groups: Sequence[tuple[int, Sequence[int]]], scale: float
) -> Tensor:
    """Attention of a packed row, [1, H, L, D] each, by a mask over whole matrices."""
    groups_of: list[int] = []
    places: list[int] = []
    completions: list[int] = []
    for number, (prompt, _) in enumerate(groups):
        groups_of += [number] * prompt
        places += range(prompt)
        completions += [-1] * prompt
    for number, (_, lengths) in enumerate(groups):
        for i, length in enumerate(lengths):
            groups_of += [number] * length
            places += range(length)
            completions += [i] * length
    group, place, completion = (torch.tensor(x) for x in (groups_of, places, completions))
    same = group.unsqueeze(1) == group
    own = (completion.unsqueeze(1) == completion) & (place.unsqueeze(1) >= place)
    prompt_of_it = (completion.unsqueeze(1) >= 0) & (completion == -1)
    scores = (q @ k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).transpose(-1, -2)) * scale
    weights = scores.masked_fill(~(same & (own | prompt_of_it)), float("-inf")).softmax(dim=-1)
    return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
