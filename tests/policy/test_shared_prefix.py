"""The shared-prefix way against the padded way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ARCHITECTURES
from tiny_policies import assert_equal_passes, both_ways, make_policy, make_rows

from squish_pl.policy.shared_prefix import SharedPrefixPasses


@pytest.mark.parametrize("checkpointed", [0, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probs_entropies_and_gradients_equal_the_padded_way(architecture, checkpointed):
    backbone = make_policy(architecture, checkpointed=checkpointed)
    rows = make_rows([(17, [5, 1, 9]), (8, [3, 2]), (4, [1, 1]), (1, [6, 4])])
    assert_equal_passes(both_ways(backbone, rows, temperature=0.7))


BACKBONE = make_policy()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.lists(st.integers(1, 20), min_size=2, max_size=6)), min_size=1, max_size=3
    ),
    st.integers(0, 1000),
)
def test_over_random_lengths(groups, seed):
    assert_equal_passes(both_ways(BACKBONE, make_rows(groups, seed)))


def test_the_prompt_runs_once_for_its_group():
    backbone = make_policy()
    seen = []
    decoder = backbone.language_model.decoder
    handle = decoder.embed_tokens.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    SharedPrefixPasses(backbone.policy).log_probs(make_rows([(17, [5, 1, 9]), (8, [3, 2])]))
    handle.remove()
    # a completion's last token is predicted, not read
    assert seen == [17 + 4 + 0 + 8 + 8 + 2 + 1]


@pytest.mark.slow
def test_compiled_layers_take_changing_lengths():
    backbone = make_policy(dtype=torch.float32)
    eager = both_ways(backbone, make_rows([(17, [5, 1, 9])]))[1]
    backbone.compile_layers()
    torch._dynamo.reset()
    compiled = both_ways(backbone, make_rows([(17, [5, 1, 9])]))[1]
    assert torch.allclose(eager[0], compiled[0], rtol=1e-4)
    passes = SharedPrefixPasses(backbone.policy)
    for seed in range(50):
        lengths = torch.randint(2, 15, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
        groups = [(10 + seed, lengths), *[(5 + seed, [3, 1])] * (seed % 3)]
        backbone.checkpoint_layers(seed % 2)
        passes.log_probs(make_rows(groups, seed))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs <= 8, graphs
