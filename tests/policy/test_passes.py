"""What both ways answer about themselves, by hand and against the whole model."""

import pytest
import torch
from tiny import ARCHITECTURES
from tiny_policies import make_policy, make_rows

from squish_pl.policy.padded import PaddedDecoder, PaddedPasses
from squish_pl.policy.shared_prefix import SharedPrefixDecoder, SharedPrefixPasses

WAYS = {"padded": PaddedPasses, "shared_prefix": SharedPrefixPasses}
WAY = pytest.mark.parametrize("way", WAYS)


@WAY
def test_a_way_has_its_name_and_its_decoder(way):
    assert WAYS[way].name == way
    assert WAYS[way].decoder is {"padded": PaddedDecoder, "shared_prefix": SharedPrefixDecoder}[way]


@pytest.mark.parametrize(
    ("groups", "padded", "shared"),
    [
        # a completion's last token is predicted, not read
        ([(17, [5, 1, 9])], 3 * (17 + 8), 17 + 4 + 0 + 8),
        ([(17, [5, 1, 9]), (8, [3, 2])], 5 * (17 + 8), 17 + 4 + 0 + 8 + 8 + 2 + 1),
        ([(1, [1])], 1, 1),
        ([(3, [1, 1]), (3, [40])], 3 * (3 + 39), 3 + 3 + 39),
    ],
)
def test_tokens_of_a_pass(groups, padded, shared):
    policy, rows = make_policy().policy, make_rows(groups)
    assert PaddedPasses(policy).tokens(rows) == padded
    assert SharedPrefixPasses(policy).tokens(rows) == shared


@WAY
def test_tokens_are_those_that_run_through_the_model(way):
    backbone = make_policy()
    passes, rows = WAYS[way](backbone.policy), make_rows([(17, [5, 1, 9]), (8, [3, 2])])
    seen = []
    embedding = backbone.language_model.decoder.embed_tokens
    handle = embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    passes.log_probs(rows)
    handle.remove()
    assert seen == [passes.tokens(rows)]


def test_prompts_held_in_a_rollout():
    policy = make_policy().policy
    # three prompts, four rows each: padded, all are read at once and each row holds its own copy
    assert PaddedPasses(policy).prompts_held(3, 12) == (3, 12)
    # shared, they are read one by one and held once for their groups
    assert SharedPrefixPasses(policy).prompts_held(3, 12) == (1, 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_measured_hidden_states_are_those_of_a_group(architecture):
    backbone = make_policy(architecture)
    decoder, ids = backbone.language_model.decoder, (torch.arange(32) * 37) % 256

    def whole(*texts):
        return decoder(input_ids=torch.cat(texts).unsqueeze(0), use_cache=False).last_hidden_state[0]

    padded = PaddedPasses(backbone.policy).measured_hidden(ids)
    assert torch.allclose(padded, torch.cat([whole(ids[:16]), whole(ids[16:])]), rtol=1e-9)
    shared = SharedPrefixPasses(backbone.policy).measured_hidden(ids)
    prompt, one, other = ids[:16], ids[16:24], ids[24:]
    expected = torch.cat([whole(prompt), whole(prompt, one)[16:], whole(prompt, other)[16:]])
    assert torch.allclose(shared, expected, rtol=1e-9)
    for hidden in (padded, shared):
        assert hidden.shape == (32, 32)
        gradients = torch.autograd.grad(hidden.sum(), backbone.adapter_parameters())
        assert all(g.abs().sum() > 0 for g in gradients)


def test_packed_rows_of_several_groups_keep_them_apart():
    backbone = make_policy()
    decoder, (a, b) = backbone.language_model.decoder, ((torch.arange(9) * 31) % 256, (torch.arange(7) * 17) % 256)
    # two prompts of 4 and 3 tokens; completions of 2 and 3, and of 4
    token_ids = torch.cat([a[:4], b[:3], a[4:6], a[6:9], b[3:]])
    positions = torch.tensor([0, 1, 2, 3, 0, 1, 2, 4, 5, 4, 5, 6, 3, 4, 5, 6])
    packed = SharedPrefixPasses(backbone.policy).packed_hidden(token_ids, positions, [(4, [2, 3]), (3, [4])])

    def whole(*texts):
        return decoder(input_ids=torch.cat(texts).unsqueeze(0), use_cache=False).last_hidden_state[0]

    expected = [whole(a[:4]), whole(b[:3]), whole(a[:6])[4:], whole(a[:4], a[6:])[4:], whole(b)[3:]]
    assert torch.allclose(packed, torch.cat(expected), rtol=1e-9)


def test_a_way_has_to_be_chosen_first():
    policy = make_policy().policy
    assert not policy.has_passes
    with pytest.raises(RuntimeError, match="choose_passes"):
        _ = policy.passes
    policy.passes = PaddedPasses(policy)
    assert policy.has_passes
    assert policy.passes.name == "padded"
