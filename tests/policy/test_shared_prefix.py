"""The grouped way against the padded way, and the attention against a mask."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from squish_pl.errors import ModelError
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.trials import choose_compiling, choose_way
from squish_pl.policy.XX import grouped, padded
from squish_pl.policy.prefix_attention import ATTENTION, GroupLayout, group_attention
from squish_pl.policy.trials import grouping_problem
from squish_pl.types import Experience


def make_backbone(architecture="qwen3", dtype=torch.float64, checkpointing=False):
    backbone = Backbone(make_tiny_model(architecture, dtype), make_byte_tokenizer(), LoraSettings(r=4))
    backbone.checkpoint_layers(2 if checkpointing else 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    backbone.policy.use_group_attention()
    return backbone


def make_rows(groups, seed=0):
    """Rows of groups given as (prompt length, completion lengths)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return torch.randint(0, 256, (n,), generator=generator)

    rows = []
    for p, lengths in groups:
        prompt = draw(p)
        rows += [Experience(prompt, draw(n), torch.zeros(n), 0.0, 0.0) for n in lengths]
    return rows


def both_ways(backbone, rows, temperature=1.0):
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(sum(len(row.completion_ids) for row in rows), generator=generator, dtype=torch.float64)
    results = []
    for way in (padded, grouped):
        backbone.zero_grad()
        log_probs, entropies = way.completion_log_probs(backbone.policy, rows, temperature)
        (log_probs * weights).sum().backward()
        gradients = [p.grad.clone() for p in backbone.adapter_parameters()]
        results.append((log_probs.detach(), entropies, gradients))
    return results


def assert_equal(results, tolerance=1e-9):
    (log_probs, entropies, gradients), (log_probs_2, entropies_2, gradients_2) = results
    assert torch.allclose(log_probs, log_probs_2, rtol=tolerance, atol=0)
    assert torch.allclose(entropies, entropies_2, rtol=tolerance, atol=0)
    scale = torch.cat([one.flatten() for one in gradients]).norm() / len(gradients) ** 0.5
    assert scale > 0
    for one, other in zip(gradients, gradients_2, strict=True):
        # a prompt of one token leaves nothing to choose from, and query gradients that are rounding alone
        assert (one - other).norm() < tolerance * max(one.norm(), scale)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probs_entropies_and_gradients_equal_the_padded_way(architecture, checkpointing):
    backbone = make_backbone(architecture, checkpointing=checkpointing)
    rows = make_rows([(17, [5, 1, 9]), (8, [3, 2]), (4, [1, 1]), (1, [6, 4])])
    assert_equal(both_ways(backbone, rows, temperature=0.7))


BACKBONE = make_backbone()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.lists(st.integers(1, 20), min_size=2, max_size=6)), min_size=1, max_size=3
    ),
    st.integers(0, 1000),
)
def test_over_random_lengths(groups, seed):
    assert_equal(both_ways(BACKBONE, make_rows(groups, seed)))


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
    layout = GroupLayout.of(groups, torch.device("cpu"))
    out, lse = group_attention(q, k, v, layout.groups, layout.pad, layout.unpad, 0.3)
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
    layout = GroupLayout.of([(4, [2, 3])], torch.device("cpu"))
    arguments = (q, k, v, layout.groups, layout.pad, layout.unpad, 0.3)
    torch.library.opcheck(
        group_attention, arguments, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )


def test_the_prompt_runs_once_for_its_group(monkeypatch):
    backbone = make_backbone()
    seen = []
    decoder = backbone.language_model.decoder
    handle = decoder.embed_tokens.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    grouped.completion_log_probs(backbone.policy, make_rows([(17, [5, 1, 9]), (8, [3, 2])]))
    handle.remove()
    # a completion's last token is predicted, not read
    assert seen == [17 + 4 + 0 + 8 + 8 + 2 + 1]


def test_models_with_other_attention_run_the_padded_way(caplog):
    shape = {
        "vocab_size": 258, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    windowed = MistralForCausalLM(MistralConfig(**shape, sliding_window=64))
    capped = Gemma2ForCausalLM(Gemma2Config(**shape, layer_types=["full_attention"] * 2, query_pre_attn_scalar=8))
    for model, words in ((windowed, "sliding window"), (capped, "")):
        backbone = Backbone(model.eval(), make_byte_tokenizer(), LoraSettings(r=2))
        with caplog.at_level(logging.WARNING):
            choose_way(backbone.policy, "auto")
        assert backbone.policy.grouped is False
        assert words in caplog.records[-1].getMessage()
        with pytest.raises(ModelError, match="cannot"):
            choose_way(backbone.policy, "grouped")


def test_plain_models_run_the_grouped_way_and_a_broken_one_is_found_out(monkeypatch):
    backbone = make_backbone(dtype=torch.float32)
    choose_way(backbone.policy, "padded")
    assert backbone.policy.grouped is False
    choose_way(backbone.policy, "auto")
    assert backbone.policy.grouped is True
    assert backbone.language_model.model.config._attn_implementation == ATTENTION
    merged = lambda groups, device, of=GroupLayout.of: of([(p, [sum(n)]) for p, n in groups], device)  # noqa: E731
    monkeypatch.setattr(GroupLayout, "of", merged)
    assert "differed" in grouping_problem(backbone.policy)


def test_a_wrong_gradient_is_found_out_in_the_trial(monkeypatch):
    backbone = make_backbone(dtype=torch.float32)
    right = grouped.completion_log_probs

    def wrong(policy, rows):
        log_probs, entropies = right(policy, rows)
        return log_probs.detach() + 1.1 * (log_probs - log_probs.detach()), entropies

    assert grouping_problem(backbone.policy) is None
    monkeypatch.setattr(grouped, "completion_log_probs", wrong)
    assert grouping_problem(backbone.policy) == "a trial's gradient differed by 10%"


def test_layers_that_do_not_compile_run_as_they_are(monkeypatch, caplog):
    backbone = make_backbone(dtype=torch.float32)
    choose_way(backbone.policy, "grouped")
    choose_compiling(backbone, "auto")
    assert not backbone.compiled  # on a CPU

    def broken(self, *args, **kwargs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    with pytest.raises(ModelError, match=r"model\.compile is true.*no compiler here"):
        choose_compiling(backbone, True)
    monkeypatch.setattr(type(backbone), "device", torch.device("cuda"))
    with caplog.at_level(logging.WARNING):
        choose_compiling(backbone, "auto")
    assert "layers are not compiled: a trial failed" in caplog.text
    assert not backbone.compiled


@pytest.mark.slow
def test_compiled_layers_take_changing_lengths():
    backbone = make_backbone(dtype=torch.float32)
    eager = both_ways(backbone, make_rows([(17, [5, 1, 9])]))[1]
    backbone.compile_layers()
    torch._dynamo.reset()
    compiled = both_ways(backbone, make_rows([(17, [5, 1, 9])]))[1]
    assert torch.allclose(eager[0], compiled[0], rtol=1e-4)
    for seed in range(50):
        lengths = torch.randint(2, 15, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
        groups = [(10 + seed, lengths), *[(5 + seed, [3, 1])] * (seed % 3)]
        backbone.checkpoint_layers(seed % 2)
        grouped.completion_log_probs(backbone.policy, make_rows(groups, seed))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs <= 8, graphs
