"""The engine: rollouts in as many groups at a time as fit, and a way that a resumed run goes on in."""

import logging

import pytest
import torch
from tiny import make_byte_tokenizer, make_tiny_model
from tiny_policies import make_policy, shake

from squish_pl.budget import Budget
from squish_pl.errors import DataError, SquishError
from squish_pl.lm.halving import Limit
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.engine import Engine
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings
from squish_pl.policy.padded import PaddedDecoder, PaddedPasses
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings, sample
from squish_pl.types import Document

TEMPLATE = PromptTemplate(instruction="{document}\n{limit}\n", close_tag="H")
SETTINGS, SEEDS = SamplingSettings(max_new_tokens=12), [5, 6, 7, 8, 9]


def make_engine(backbone, max_rows=256, passes="auto"):
    settings = MemorySettings(max_rows=max_rows)
    plan = MemoryPlan(Costs(backbone), settings, Limit("scoring pass", "tokens", 8192))
    return Engine(backbone, plan, TEMPLATE, passes)


def make_prompts(tokenizer):
    texts = ["A short one.", "One that is quite a bit longer than the first.", "Third: ünïcödé 🎉!", "4", "The last."]
    return [TEMPLATE.build(Document(text), Budget.parse("1000 chars"), tokenizer) for text in texts]


def counting_passes(policy, most_rows=10**9):
    """The padded way; notes the prompts of each rollout, and has no memory for more than so many rows."""
    seen = []

    class Counting(PaddedDecoder):
        def prefill(self, prompts):
            seen.append(len(prompts))
            if len(prompts) * self.group_size > most_rows:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().prefill(prompts)

    class CountingPasses(PaddedPasses):
        decoder = Counting

    policy.passes = CountingPasses(policy)
    return seen


@pytest.mark.parametrize(("max_rows", "pieces"), [(256, [5]), (12, [4, 1]), (8, [2, 2, 1]), (3, [1] * 5), (1, [1] * 5)])
def test_as_many_whole_groups_at_a_time_as_the_plan_allows(max_rows, pieces):
    backbone = make_policy()
    prompts, seen = make_prompts(backbone.tokenizer), counting_passes(backbone.policy)
    groups = make_engine(backbone, max_rows).sample(prompts, 3, SETTINGS, SEEDS)
    assert seen == pieces
    together = sample(backbone.policy, backbone.tokenizer, TEMPLATE, prompts, 3, SETTINGS, SEEDS)
    for one, other, prompt in zip(groups, together, prompts, strict=True):
        assert one.prompt is prompt
        assert torch.equal(one.token_ids, other.token_ids)
        assert torch.allclose(one.log_probs, other.log_probs, atol=1e-6)


def test_fewer_groups_at_a_time_where_memory_runs_out(caplog):
    backbone = make_policy()
    prompts, seen = make_prompts(backbone.tokenizer), counting_passes(backbone.policy, most_rows=6)
    engine = make_engine(backbone)
    with caplog.at_level(logging.WARNING):
        groups = engine.sample(prompts, 3, SETTINGS, SEEDS)
    assert seen == [5, 2, 2, 1]  # 15 rows do not fit, 7 are two whole groups
    assert "out of memory in a rollout of 15 rows" in caplog.text
    backbone.policy.passes = PaddedPasses(backbone.policy)
    together = sample(backbone.policy, backbone.tokenizer, TEMPLATE, prompts, 3, SETTINGS, SEEDS)
    assert all(torch.equal(a.token_ids, b.token_ids) for a, b in zip(groups, together, strict=True))


def test_not_even_one_group_fits():
    backbone = make_policy()
    counting_passes(backbone.policy, most_rows=2)
    with pytest.raises(
        SquishError, match=r"rollout of 3 rows, the smallest there is: lower model\.rollout\.group_size"
    ):
        make_engine(backbone).sample(make_prompts(backbone.tokenizer), 3, SETTINGS, SEEDS)


def test_a_prompt_that_is_too_long_is_named():
    backbone = Backbone(make_tiny_model(context=80), make_byte_tokenizer(), LoraSettings(r=2))
    engine = make_engine(backbone)

    def prompt(length):
        return TEMPLATE.build(Document("d" * length, id=f"n{length}"), Budget.parse("5 chars"), backbone.tokenizer)

    around = len(prompt(0).token_ids)
    fits = 80 - 12 - around
    assert len(engine.sample([prompt(fits)], 2, SETTINGS, [0])) == 1
    with pytest.raises(
        DataError, match=f"document 'n{fits + 1}' has 69 tokens, but the model has room for 68 beside 12"
    ):
        engine.sample([prompt(1), prompt(fits + 1)], 2, SETTINGS, [0, 1])


def resumed(state, passes="auto"):
    backbone = make_policy()
    engine = make_engine(backbone, passes=passes)
    engine.resume(state)
    engine.get_ready()
    return backbone.policy.passes.name


def test_a_resumed_run_goes_on_in_the_same_way():
    backbone = make_policy()
    engine = make_engine(backbone, passes="padded")
    assert engine.state()["passes"] is None
    engine.get_ready()
    state = engine.state()
    assert (state["device"], state["passes"]) == ("cpu", "padded")
    assert resumed(state) == "padded"  # a new run would share prefixes
    assert resumed(state | {"device": "another card"}) == "shared_prefix"
    assert resumed(state | {"passes": None}) == "shared_prefix"
    assert resumed(state, passes="shared_prefix") == "shared_prefix"  # settings come first
    assert resumed(state | {"passes": "shared_prefix"}, passes="padded") == "padded"


@pytest.mark.parametrize(("grouped", "name"), [(False, "padded"), (True, "shared_prefix"), (None, "shared_prefix")])
def test_the_states_of_old_checkpoints_are_understood(grouped, name):
    engine = make_engine(make_policy())
    engine.get_ready()
    state = {key: value for key, value in engine.state().items() if key != "passes"}
    assert resumed(state | {"grouped": grouped}) == name


def test_a_resumed_plan_is_kept():
    backbone = make_policy()
    engine = make_engine(backbone)
    engine.get_ready()
    engine.plan.rollout.value = 7
    other = make_engine(make_policy())
    other.resume(engine.state())
    other.get_ready()
    assert other.plan.rollout.value == 7
    assert other.plan.state() == engine.plan.state()


def test_way_and_plan_are_chosen_once():
    backbone = make_policy()
    engine = make_engine(backbone)
    engine.get_ready()
    passes, available = backbone.policy.passes, engine.plan.available
    shake(backbone, seed=3)
    engine.get_ready()
    assert backbone.policy.passes is passes
    assert engine.plan.available == available
