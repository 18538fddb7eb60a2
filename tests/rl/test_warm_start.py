"""The warm start: what is learnt by hand, its loss by brute force, and its phase of a run."""

import dataclasses
import logging
import math

import pytest
import torch
from groups import make_group, make_scores
from test_module import DOCUMENTS, ROLLOUT, fit, gradients, make_module
from tiny import make_byte_tokenizer

from squish_pl.budget import Budget
from squish_pl.errors import ConfigError
from squish_pl.policy.memory.plan import MemorySettings
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings
from squish_pl.policy.watch import completion_text
from squish_pl.rl.figures import PassTotals
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.optimizer import OptimizerSettings
from squish_pl.rl.rewards import InvalidRule, Measured, Squish, budget_used, group_rewards
from squish_pl.rl.warm_start import (
    WarmStartSettings,
    choose_lessons,
    given_group,
    make_lessons,
    used_figures,
    warm_figures,
)
from squish_pl.score.measures import Support
from squish_pl.score.scorer import ScoreRequest
from squish_pl.types import Document, DocumentBatch, Finish, Prompt

TOKENIZER = make_byte_tokenizer()
NAN = math.nan


def a_group(summaries, document="0123456789" * 2, budget="10 chars"):
    group = make_group([len(s or "") + 1 for s in summaries], summaries=summaries)
    return dataclasses.replace(group, prompt=Prompt(Document(document), Budget.parse(budget), "", (1, 2, 3)))


def judged(group, score, rewards=(Squish(),), **measures):
    used = budget_used(group, TOKENIZER)
    scores = make_scores(score, within=[bool(u <= 1) for u in used.tolist()], **measures)
    return group_rewards(rewards, InvalidRule(), scores, group, None), used


def test_shares_of_the_budget_by_hand():
    summaries = ["12345", "", None, "1234567890", "12345678901"]
    assert budget_used(a_group(summaries), TOKENIZER)[[0, 1, 3, 4]].tolist() == [0.5, 0.0, 1.0, 1.1]
    assert math.isnan(budget_used(a_group(summaries), TOKENIZER)[2])
    assert budget_used(a_group(["123"], budget="20%"), TOKENIZER).tolist() == [0.75]  # 3 of 4 characters
    assert budget_used(a_group(["123"], budget="4 tokens"), TOKENIZER).tolist() == [0.75]  # a byte is a token
    assert budget_used(a_group(["1"], document="0", budget="10%"), TOKENIZER).isnan().all()  # nothing is allowed


def test_the_best_that_use_the_budget_are_learnt():
    #          0.6 used   over           too short  repeated  none  0.8, best   0.7
    summaries = ["aaaaaa", "bbbbbbbbbbb", "ccccc", "aaaaaa", None, "dddddddd", "eeeeeee"]
    group = a_group(summaries)
    rewarded, used = judged(group, [0.3, 0.9, 0.8, 0.3, 0.0, 0.5, 0.3])
    for keep, expected in ((10, [5, 0, 6]), (2, [5, 0]), (1, [5]), (0.2, [5, 0]), (0.1, [5]), (0.9, [5, 0, 6])):
        assert choose_lessons(group, rewarded, used, WarmStartSettings(keep=keep)) == expected  # of equals the first
    assert choose_lessons(group, rewarded, used, WarmStartSettings(keep=10, least_used=0.0)) == [2, 5, 0, 6]
    assert choose_lessons(group, rewarded, used, WarmStartSettings(keep=10, least_used=0.9)) == []


def test_an_empty_summary_and_one_of_which_a_reward_cannot_tell_are_never_learnt():
    group = a_group(["aaaaaa", "bbbbbb", ""])
    rewards = [Squish(), Measured(Support())]
    rewarded, used = judged(group, [0.3, 0.9, 0.0], rewards, support=[-1.0, NAN, NAN])
    assert rewarded.valid.tolist() == [True, True, False]
    assert rewarded.counts.tolist() == [True, False, False]
    assert choose_lessons(group, rewarded, used, WarmStartSettings(keep=10, least_used=0)) == [0]


def test_a_share_of_a_group_is_rounded_up_without_rounding_errors():
    kept = [WarmStartSettings(keep=keep).kept_of(size) for keep, size in ((0.1, 30), (0.25, 6), (1e-12, 4), (3, 8))]
    assert kept == [3, 2, 1, 3]


def test_each_document_that_teaches_counts_the_same():
    groups = [make_group([1, 3, 2]), make_group([2, 2]), make_group([4, 5])]
    rows = make_lessons(groups, [[1, 0], [], [1]])
    assert [row.completion_ids.tolist() for row in rows] == [[3, 4, 5], [0], [5, 6, 7, 8, 9]]
    assert [row.weight for row in rows] == pytest.approx([1 / 8, 1 / 8, 1 / 10], rel=1e-12)
    assert [row.advantage for row in rows] == [1.0, 1.0, 1.0]
    assert rows[0].prompt_ids is rows[1].prompt_ids  # one group of a policy pass
    assert make_lessons(groups, [[], [], []]) == []


def test_figures_by_hand():
    groups = [a_group(["aaaaaa", "bbbbbbbb", None]), a_group(["cc", "ddd"])]
    both = [judged(group, score) for group, score in zip(groups, ([0.4, 0.2, 0.0], [0.1, 0.3]), strict=True)]
    rewarded, used = [r for r, _ in both], [u for _, u in both]
    passes = [PassTotals(tokens=4, loss=2.0, entropy=8.0, grad_norm=1.0)]
    passes.append(PassTotals(tokens=4, loss=1.0, entropy=4.0, grad_norm=3.0))
    assert warm_figures(3, rewarded, used, [[0], []], passes) == {
        "warm/reward": pytest.approx((0.4 + 0.2 + 0.19 + 0.1 + 0.3) / 5),  # invalid: below the worst
        "warm/reward_kept": pytest.approx(0.4),
        "warm/used": pytest.approx((0.6 + 0.8 + 0.2 + 0.3) / 4),
        "warm/used_kept": pytest.approx(0.6),
        "warm/entropy": pytest.approx((8 / 4 + 4 / 4) / 2),
        "warm/loss": 1.5,
        "warm/grad_norm": 2.0,
        "warm/kept": pytest.approx(1 / 5),
        "warm/documents": pytest.approx(1 / 3),
    }
    assert used_figures(rewarded, used) == {"rollout/used": pytest.approx((0.6 + 0.8 + 0.2 + 0.3) / 4)}
    empty = warm_figures(3, [], [], [], [PassTotals()])
    assert empty == {"warm/loss": 0.0, "warm/grad_norm": 0.0, "warm/kept": 0.0, "warm/documents": 0.0}
    assert used_figures([], []) == {}


# ---- given summaries ----

TEXT = "The ferry left. It was late! Nobody on the quay saw who steered it."


def given(highlights, budget="60 chars", cap=512, template=PromptTemplate()):
    document = Document("x" * 100, highlights=highlights)
    return given_group(template.build(document, Budget.parse(budget), TOKENIZER), template, TOKENIZER, cap)


@pytest.mark.parametrize(
    ("budget", "cap", "summary"),
    [
        ("67 chars", 512, TEXT),
        ("67%", 512, TEXT),
        ("66 chars", 512, "The ferry left. It was late!"),
        ("28 tokens", 512, "The ferry left. It was late!"),
        ("27%", 512, "The ferry left."),
        ("67 chars", 67 + 10, TEXT),
        ("67 chars", 67 + 9, "The ferry left. It was late!"),  # the closing tag needs room, too
    ],
)
def test_what_is_given_is_cut_at_a_sentence_and_closed(budget, cap, summary):
    group = given(f"\n {TEXT} ", budget, cap)
    assert group.summaries == [summary]
    assert completion_text(TOKENIZER, group.token_ids[0].tolist()) == f"{summary}</summary>"
    assert group.mask.all()
    assert group.lengths.tolist() == [len(summary) + 10]
    assert group.finish.tolist() == [Finish.CLOSED]


def test_what_cannot_be_given_is_left_out():
    assert given("") is None
    assert given(" \n") is None
    assert given(TEXT, "14 chars") is None
    assert given("A tag </summary> is in it.") is None


# ---- rounds ----

WARM = WarmStartSettings(rounds=2, keep=2, least_used=0.01)


def warm_module(warm_start=WARM, dtype=torch.float64, **settings):
    settings.setdefault("optimizer", OptimizerSettings(learning_rate=1e-2))
    return make_module(dtype, warm_start=warm_start, **settings)


def lessons(module):
    """The rows of the round that the module would train on now."""
    groups = module.sample(module.training_prompts(DOCUMENTS))
    requests = [ScoreRequest(group.prompt.document, group.summaries, group.prompt.budget) for group in groups]
    rewarded = module.judge(groups, module.scorer.score_batch(requests))
    used = [budget_used(group, module.tokenizer) for group in groups]
    return make_lessons(groups, [choose_lessons(*group, WARM) for group in zip(groups, rewarded, used, strict=True)])


@pytest.mark.parametrize("passes", ["padded", "shared_prefix"])
def test_the_loss_is_the_mean_of_minus_ln_p_however_it_is_sliced(passes):
    rollout = dataclasses.replace(ROLLOUT, group_size=16, temperature=0.9)
    module = warm_module(memory=MemorySettings(passes=passes), rollout=rollout)
    rows = lessons(module)
    module.warming = True
    whole, totals = gradients(module, rows)
    # by brute force: a forward pass of the whole model for each completion
    nats = {}
    with torch.no_grad(), module.backbone.policy.generating() as model:
        for row in rows:
            ids = torch.cat([row.prompt_ids, row.completion_ids])
            log_probs = torch.log_softmax(model(input_ids=ids.unsqueeze(0)).logits[0] / 0.9, dim=-1)
            own = log_probs[len(row.prompt_ids) - 1 : -1].gather(1, row.completion_ids.unsqueeze(1))
            nats.setdefault(id(row.prompt_ids), []).append(-own.flatten())
    assert len(nats) > 1
    assert len(rows) > len(nats)
    by_hand = torch.stack([torch.cat(parts).mean() for parts in nats.values()]).mean()
    assert totals.loss == pytest.approx(float(by_hand), rel=1e-12)
    assert totals.sums == {}
    for tokens in (1, 120, 200, 400):
        module.warm_learner.plan.learning.value = module.warm_learner.plan.whole = tokens
        sliced, sliced_totals = gradients(module, rows)
        assert (sliced - whole).norm() / whole.norm() < 1e-12
        assert sliced_totals.loss == pytest.approx(totals.loss, rel=1e-12)


def run(module, tmp_path, rounds, batches=None):
    """The figures of each round of a run."""
    found = []
    log_figures = module._log_figures
    module._log_figures = lambda figures, size: (found.append(figures), log_figures(figures, size))
    fit(module, tmp_path, rounds, batches)
    return found


def test_warm_rounds_come_first_and_learn(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="squish_pl"):
        module = warm_module(dataclasses.replace(WARM, rounds=6, group_size=32, keep=8, passes=2))
        figures = run(module, tmp_path, 13)
    assert ["warm/loss" in f for f in figures] == [True] * 6 + [False]
    assert ["loss/policy" in f for f in figures] == [False] * 6 + [True]
    assert all("reward/mean" in f and f["warm/reward"] == pytest.approx(f["reward/mean"]) for f in figures[:6])
    assert figures[5]["rollout/parsed"] > figures[0]["rollout/parsed"] + 0.1
    told = [record.getMessage() for record in caplog.records if "warm start" in record.getMessage()]
    assert told[0].startswith("warm start: 6 rounds of learning the best of each document's 32 samples")
    assert told[-1].startswith("warm start: ended after round 6")
    assert len(told) == 2


def test_the_reinforcement_has_an_optimiser_of_its_own(tmp_path):
    """Moments, warm-up and learning rate begin anew; steps of both phases count."""
    optimizer = OptimizerSettings(learning_rate=1e-3, warmup_steps=1)
    settings = WarmStartSettings(rounds=2, keep=2, least_used=0.01, learning_rate=1e-2, passes=3, group_size=6)
    module = warm_module(settings, optimizer=optimizer, learn=LearnSettings(policy_passes=2))
    states, sizes = [], []
    update, sample = module.update, module.engine.sample

    def noted(rows, passes):
        adam = module._optimizer.optimizer
        steps = {float(state["step"]) for state in adam.state.values()}
        found = update(rows, passes)
        states.append((steps, {float(state["step"]) for state in adam.state.values()}, adam.param_groups[0]["lr"]))
        return found

    def sampled(prompts, group_size, *others):
        sizes.append(group_size)
        return sample(prompts, group_size, *others)

    module.update, module.engine.sample = noted, sampled
    trainer = fit(module, tmp_path, 5)  # 10 steps: two rounds of 3, two of 2
    assert trainer.global_step == 10
    assert module.round == 4
    assert states == [(set(), {3.0}, 1e-2), ({3.0}, {6.0}, 1e-2), (set(), {2.0}, 1e-3), ({2.0}, {4.0}, 1e-3)]
    assert sizes == [6, 6, 4, 4]


def test_without_a_warm_start_nothing_changes(tmp_path):
    adapters = []
    for settings in (WarmStartSettings(), WarmStartSettings(keep=3, learning_rate=1.0, group_size=9)):
        module = warm_module(settings)
        fit(module, tmp_path, 2)
        adapters.append(torch.cat([p.detach().flatten() for p in module.backbone.adapter_parameters()]))
    assert torch.equal(*adapters)


def test_both_ways_of_passes_and_an_offloaded_optimiser_end_in_the_same_adapter(tmp_path):
    adapters = []
    for passes, offload in (("padded", False), ("shared_prefix", True)):
        optimizer = OptimizerSettings(learning_rate=1e-2, offload=offload)
        module = warm_module(memory=MemorySettings(passes=passes), optimizer=optimizer)
        before = torch.cat([p.detach().flatten().clone() for p in module.backbone.adapter_parameters()])
        fit(module, tmp_path, 3)
        adapters.append(torch.cat([p.detach().flatten() for p in module.backbone.adapter_parameters()]))
    one, other = adapters
    assert (one - before).norm() > 0.01 * before.norm()
    assert (one - other).abs().max() < 1e-8 * one.abs().max()


def test_given_summaries_are_learnt_and_documents_without_are_left_out(tmp_path, caplog):
    documents = [dataclasses.replace(d, highlights=d.text[:20]) for d in DOCUMENTS[:3]] + DOCUMENTS[3:]
    settings = WarmStartSettings(rounds=3, source="highlights", least_used=0.1)
    rollout = RolloutSettings(["30 chars"], group_size=4, max_new_tokens=40)
    module = warm_module(settings, rollout=rollout)
    figures = run(module, tmp_path, 3, [DocumentBatch(documents)] * 3)
    assert [f["warm/documents"] for f in figures] == [0.75] * 3
    assert [f["warm/kept"] for f in figures] == [1.0] * 3
    assert figures[2]["warm/loss"] < figures[0]["warm/loss"] - 0.1
    assert not any(key.startswith(("rollout/", "reward/")) for key in figures[0])
    none = warm_module(settings, rollout=rollout)
    (first,) = run(none, tmp_path, 1)
    assert first["warm/loss"] == first["warm/grad_norm"] == first["warm/documents"] == 0.0
    assert "warm start, round 1: nothing to learn; no document had highlights" in caplog.text


def test_rounds_of_a_number_of_steps():
    settings = WarmStartSettings(rounds=2, passes=3)
    assert [settings.rounds_of(steps, 2) for steps in (1, 3, 4, 6, 7, 8, 9)] == [1, 1, 2, 2, 3, 3, 4]
    assert [WarmStartSettings().rounds_of(steps, 2) for steps in (1, 2, 3)] == [1, 1, 2]


def test_mistakes_are_told_together():
    wrong = WarmStartSettings(rounds=-1, keep=1.5, least_used=2.0, group_size=1, learning_rate=0.0, passes=0)
    with pytest.raises(ConfigError) as caught:
        make_module(warm_start=wrong)
    assert caught.value.problems == [
        "model.warm_start.rounds must be at least 0, but is -1",
        "model.warm_start.keep must be a share below 1 or a whole number above 0, but is 1.5",
        "model.warm_start.least_used must be a number from 0 to 1, but is 2.0",
        "model.warm_start.learning_rate must be a number above 0, but is 0.0",
        "model.warm_start.group_size must be at least 2, but is 1",
        "model.warm_start.passes must be at least 1, but is 0",
    ]
    assert len(WarmStartSettings(keep=0).problems()) == len(WarmStartSettings(keep=math.inf).problems()) == 1
    assert WarmStartSettings().problems() == []
