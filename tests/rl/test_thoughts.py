"""Thoughts in the loss, the reward and the figures of a round, by hand."""

from dataclasses import replace

import pytest
import torch
from groups import make_group
from test_module import make_module

from squish_pl import SquishModule
from squish_pl.errors import ConfigError
from squish_pl.policy.memory.plan import MemorySettings
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings
from squish_pl.policy.thinking import Thinking
from squish_pl.rl.entropy_control import mean_advantage
from squish_pl.rl.experience import make_experience
from squish_pl.rl.figures import rollout_figures
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.rewards import OwnInformation, Squish
from squish_pl.rl.warm_start import WarmStartSettings, make_lessons
from squish_pl.score.scorer import ScoreRequest
from squish_pl.types import Document, Finish, Thoughts


def thoughtful(lengths, thoughts, texts=None, **settings):
    """A group of completions of these lengths, of which so many tokens each are thoughts."""
    texts = ["t"] * len(lengths) if texts is None else texts
    return replace(make_group(lengths, **settings), thoughts=Thoughts(torch.tensor(thoughts), texts))


def test_summaries_and_thoughts_count_apart():
    groups = [thoughtful([5, 9, 4], [2, 8, 4]), make_group([1, 1, 1]), thoughtful([6, 6, 1], [1, 2, 1])]
    rows = make_experience(groups, torch.zeros(3, 3), skip=torch.tensor([False, True, False]), thought_share=0.5)
    # of the first group: 3 + 1 + 0 tokens of summaries, 2 + 8 + 4 of thoughts; of the third: 5 + 4 + 0 and 1 + 2 + 1
    first, thought = 1 / 4 / 3, 0.5 / 14 / 3
    third, its_thought = 1 / 9 / 3, 0.5 / 4 / 3
    expected = [
        [thought] * 2 + [first] * 3,
        [thought] * 8 + [first],
        [thought] * 4,
        [its_thought] + [third] * 5,
        [its_thought] * 2 + [third] * 4,
        [its_thought],
    ]
    assert [row.token_weights.tolist() for row in rows] == [pytest.approx(e, rel=1e-6) for e in expected]
    # a group counts 1 / D by its summaries and as much again, or a share of it, by its thoughts
    assert float(sum(row.token_weights.sum() for row in rows[:3])) == pytest.approx((1 + 0.5) / 3, rel=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_how_long_a_thought_is_does_not_change_what_a_summary_counts(share):
    short, long = thoughtful([5, 9], [2, 4]), thoughtful([103, 205], [100, 200])
    for group in (short, long):
        rows = make_experience([group], torch.zeros(1, 2), torch.tensor([False]), share)
        assert [row.weight for row in rows] == [1 / 8, 1 / 8]
        thoughts = [float(row.token_weights[: row.thought_tokens].double().sum()) for row in rows]
        assert sum(thoughts) == pytest.approx(share, rel=1e-6)


def test_without_thoughts_the_weights_are_what_they_were():
    rows = make_experience([make_group([1, 3]), make_group([2, 2])], torch.zeros(2, 2), torch.tensor([False, False]))
    for row in rows:
        assert row.weight == 1 / 8
        assert torch.equal(row.token_weights, torch.tensor([1 / 8]).repeat(len(row.completion_ids)))


def test_a_group_of_nothing_but_thoughts():
    rows = make_experience([thoughtful([3, 3], [3, 3])], torch.zeros(1, 2), torch.tensor([False]))
    assert [row.token_weights.tolist() for row in rows] == [pytest.approx([1 / 6] * 3)] * 2


def test_figures():
    one = thoughtful(
        [3, 4, 2],
        [1, 2, 2],
        ["", "first draft one", "dr"],
        summaries=["", "draft", None],
        finish=[Finish.CLOSED, Finish.CLOSED, Finish.THOUGHT],
        entropies=[[1.0, 2.0, 3.0, 90.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 90.0, 90.0]],
    )
    other = thoughtful(
        [2, 1, 1],
        [1, 1, 1],
        ["one", "", "ended"],
        summaries=["draft", None, None],
        finish=[Finish.OUTGROWN, Finish.THOUGHT, Finish.ENDED],
        entropies=[[10.0, 11.0], [12.0, 90.0], [13.0, 90.0]],
    )
    figures = rollout_figures([one, other])
    shares = {f"rollout/{end}" for end in ("closed", "outgrown", "capped", "ended", "thought")}
    assert sum(figures[key] for key in shares) == pytest.approx(1.0)
    assert figures["rollout/thought"] == pytest.approx(2 / 6)
    assert figures["rollout/thought_length"] == pytest.approx((1 + 2 + 2 + 1 + 1 + 1) / 6)
    assert figures["rollout/thought_empty"] == pytest.approx(2 / 6)
    assert figures["rollout/thought_copied"] == 1 / 2  # an empty summary is copied from nowhere
    assert figures["rollout/thought_entropy"] == pytest.approx((1 + 4 + 5 + 8 + 9 + 10 + 12 + 13) / 8)
    assert figures["rollout/summary_entropy"] == pytest.approx((2 + 3 + 6 + 7 + 11) / 5)
    assert figures["rollout/length"] == pytest.approx(13 / 6)  # of both together
    # nothing but thoughts: of summaries there is nothing to tell
    alone = rollout_figures([thoughtful([2, 2], [2, 2], summaries=[None, None])])
    assert not {"rollout/summary_entropy", "rollout/thought_copied"} & alone.keys()
    assert alone["rollout/thought_entropy"] == 1.0


def test_without_thinking_there_is_no_such_figure():
    assert not [key for key in rollout_figures([make_group([1, 2])]) if "thought" in key or "summary_" in key]


# a random model hits one given byte now and then
PROMPT = PromptTemplate("{document}\n{limit}\n", close_tag="H", thinking=Thinking(64, "", close_tag="U"))


def make_thinker(passes="auto", **learn):
    return make_module(
        prompt=PROMPT,
        rollout=RolloutSettings(["60%"], group_size=8, max_new_tokens=24),
        rewards=[Squish(), OwnInformation()],
        learn=LearnSettings(**learn),
        memory=MemorySettings(passes=passes),
    )


DOCUMENTS = [Document("The ferry left at dawn. It carried 31 passengers and a goat named Ada."),
             Document("Snow fell on the pass all night.")]  # fmt: skip


def test_rewards_are_blind_to_thoughts():
    module = make_thinker()
    prompt = module.training_prompts(DOCUMENTS)[0]
    summaries = ["ferry goat", "the ferry left", "", None, "f" * 60]
    totals = []
    for texts in (["a", "b", "c", "d", "e"], ["", "ferry goat", "passengers " * 9, "Ada", "the ferry left"]):
        lengths = [len(text) + 5 for text in texts]
        group = thoughtful(lengths, [len(text) for text in texts], texts, summaries=summaries)
        group = replace(group, prompt=prompt)
        scores = module.scorer.score_batch([ScoreRequest(prompt.document, group.summaries, prompt.budget)])
        totals.append(module.judge([group], scores)[0].total)
    assert torch.equal(*totals)
    assert len(set(totals[0].tolist())) == 3  # two valid ones, and what invalid ones earn


def test_the_loss_of_a_pass_by_hand():
    """At a ratio of 1 the loss is -sum A * weight over all tokens."""
    module = make_thinker()
    groups = module.sample(module.training_prompts(DOCUMENTS))
    advantages = torch.linspace(-1.0, 1.0, 16).reshape(2, 8) ** 3
    for share in (1.0, 0.25, 0.0):
        rows = make_experience(groups, advantages, torch.tensor([False, False]), share)
        expected = 0.0
        for group, row_advantages in zip(groups, advantages, strict=True):
            thoughts = group.thoughts.lengths
            summaries = group.lengths - thoughts
            assert int(summaries.sum()) > 0
            for advantage, t, s in zip(row_advantages, thoughts, summaries, strict=True):
                expected -= float(advantage * (s / summaries.sum() + share * t / thoughts.sum())) / 2
        totals = module.accumulate(rows)
        assert totals.loss == pytest.approx(expected, rel=1e-5)


def test_thoughts_that_do_not_count_have_no_gradient():
    module = make_thinker()
    groups = module.sample(module.training_prompts(DOCUMENTS))
    skip, zeros = torch.tensor([False, False]), torch.zeros(2, 8)
    unclosed = torch.stack([group.thoughts.lengths == group.lengths for group in groups])
    assert unclosed.any()
    assert not unclosed.all()
    module.accumulate(make_experience(groups, unclosed.double(), skip, thought_share=0.0))
    assert all(not p.grad.any() for p in module.backbone.adapter_parameters())
    module.accumulate(make_experience(groups, unclosed.double(), skip, thought_share=1.0))
    assert any(p.grad.any() for p in module.backbone.adapter_parameters())
    module.accumulate(make_experience(groups, zeros, skip))
    assert all(not p.grad.any() for p in module.backbone.adapter_parameters())


def test_packed_rows_and_slices_of_any_size_have_the_gradient_of_padded_ones():
    found = []
    for passes in ("padded", "shared_prefix"):
        module = make_thinker(passes)
        groups = module.sample(module.training_prompts(DOCUMENTS))
        advantages = torch.linspace(-1.0, 1.0, 16).reshape(2, 8) ** 3
        rows = make_experience(groups, advantages, torch.tensor([False, False]), thought_share=0.25)
        assert len({row.thought_tokens for row in rows}) > 2
        for tokens in (100_000, 400, 1):
            module.learner.plan.learning.value = module.learner.plan.whole = tokens
            totals = module.accumulate(rows)
            gradient = torch.cat([p.grad.flatten() for p in module.backbone.adapter_parameters()])
            found.append((totals.loss, gradient))
    (loss, gradient), *others = found
    assert gradient.norm() > 0
    for other_loss, other in others:
        assert other_loss == pytest.approx(loss, rel=1e-10)
        assert (other - gradient).norm() < 1e-10 * gradient.norm()


# ---- the warm start, entropy controls ----


def test_lessons_count_apart_too():
    groups = [thoughtful([5, 9, 4], [2, 8, 4]), thoughtful([2, 2], [1, 1]), thoughtful([6, 6], [1, 2])]
    rows = make_lessons(groups, [[1, 0], [], [0]], thought_share=0.5)
    # of the first group's two: 1 + 3 tokens of summaries, 8 + 2 of thoughts; two documents teach
    expected = [
        [0.5 / 10 / 2] * 8 + [1 / 4 / 2],
        [0.5 / 10 / 2] * 2 + [1 / 4 / 2] * 3,
        [0.5 / 1 / 2] + [1 / 5 / 2] * 5,
    ]
    assert [row.token_weights.tolist() for row in rows] == [pytest.approx(e, rel=1e-12) for e in expected]
    assert [row.advantage for row in rows] == [1.0] * 3


def test_the_loss_of_a_warm_round_is_a_mean_of_summaries_and_one_of_thoughts():
    module = make_thinker()
    groups = module.sample(module.training_prompts(DOCUMENTS))
    closed = [(group.lengths > group.thoughts.lengths).nonzero().flatten().tolist() for group in groups]
    chosen = [closed[0][:2], closed[1][:1]]
    assert [len(indices) for indices in chosen] == [2, 1]
    expected = 0.0
    for share, part in ((1.0, lambda g: g.mask & ~g.thought_mask), (0.5, lambda g: g.thought_mask)):
        for group, indices in zip(groups, chosen, strict=True):
            nats = -group.log_probs[indices][part(group)[indices]].double()
            expected += share * float(nats.mean()) / len(groups)
    totals = module.warm_learner.accumulate(make_lessons(groups, chosen, 0.5))
    assert totals.loss == pytest.approx(expected, rel=1e-5)


def test_highlights_have_no_thoughts_to_learn():
    highlights = WarmStartSettings(rounds=1, source="highlights")
    with pytest.raises(ConfigError) as caught:
        SquishModule(prompt=PROMPT, warm_start=highlights)
    assert caught.value.problems == [
        "model.warm_start.source is highlights, which come without a thought, but with prompt.thinking the policy "
        "thinks first: set warm_start.source to samples, or leave prompt.thinking out"
    ]
    SquishModule(prompt=PROMPT, warm_start=replace(highlights, source="samples"))
    SquishModule(prompt=PROMPT, warm_start=replace(highlights, rounds=0))
    SquishModule(prompt=replace(PROMPT, thinking=None), warm_start=highlights)


def test_controls_weigh_advantages_as_the_loss_does():
    groups = [thoughtful([5, 2], [2, 1])]  # 3 and 1 tokens of summaries, 2 and 1 of thoughts
    rows = make_experience(groups, torch.tensor([[0.4, -0.1]]), torch.tensor([False]), 0.5)
    weights = 3 / 4 + 0.5 * 2 / 3, 1 / 4 + 0.5 * 1 / 3
    assert mean_advantage(rows) == pytest.approx((weights[0] * 0.4 + weights[1] * 0.1) / 1.5, rel=1e-6)


def test_settings():
    assert LearnSettings().thought_share == 1.0
    for share in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"model\.learn\.thought_share must be a finite number of at least 0"):
            make_thinker(thought_share=share)
