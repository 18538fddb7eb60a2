"""The attention of packed groups against a mask."""

import pytest
import torch

from squish_pl.policy.prefix_attention import PrefixLayout, shared_prefix_attention


def group_mask(groups):
    """[L, L] bool by the definition: who sees whom; prompts first, then their completions."""
    prompts = [torch.full((p,), d) for d, (p, _) in enumerate(groups)]
    completions = [torch.full((n,), d) for d, (_, lengths) in enumerate(groups) for n in lengths]
    group = torch.cat([*prompts, *completions])
    owner = torch.cat([torch.full((len(c),), i + 1) for i, c in enumerate(completions)] or [torch.zeros(0)])
    owner = torch.cat([torch.zeros(len(group) - len(owner)), owner])
    earlier = torch.arange(len(group)).unsqueeze(1) >= torch.arange(len(group))
    return earlier & (group.unsqueeze(1) == group) & ((owner.unsqueeze(1) == owner) | (owner == 0))


@pytest.mark.parametrize(
    "groups",
    [
        [(5, [2, 2])],
        [(7, [1])],
        [(3, [4, 1, 6, 2])],
        [(1, [1, 1])],
        [(4, [])],
        [(3, [2, 5]), (6, []), (2, [1, 1, 3])],
    ],
)
def test_the_attention_equals_a_masked_one(groups):
    torch.manual_seed(0)
    size = sum(p + sum(lengths) for p, lengths in groups)
    shapes = [(1, 4, size, 8), (1, 2, size, 8), (1, 2, size, 8)]
    q, k, v = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    layout = PrefixLayout.of(groups, torch.device("cpu"))
    out, lse = shared_prefix_attention(q, k, v, layout.groups, layout.pad, layout.unpad, 0.3)
    mask = group_mask(groups)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True)
    products = 0.3 * q @ k.repeat_interleave(2, 1).transpose(-1, -2)
    assert torch.allclose(out, expected, rtol=1e-12, atol=1e-14)
    assert torch.allclose(lse, products.masked_fill(~mask, -torch.inf).logsumexp(-1), rtol=1e-12)
    grad = torch.randn_like(out)
    mine, theirs = (torch.autograd.grad(o, (q, k, v), grad) for o in (out, expected))
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-13)


def test_the_custom_operators_are_well_formed():
    q, k, v = (torch.randn(1, heads, 9, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    layout = PrefixLayout.of([(4, [2, 3])], torch.device("cpu"))
    arguments = (q, k, v, layout.groups, layout.pad, layout.unpad, 0.3)
    torch.library.opcheck(
        shared_prefix_attention, arguments, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )
