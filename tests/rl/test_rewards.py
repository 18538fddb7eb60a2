"""Components, their weighted sum, and the rule for invalid summaries."""

import math

import pytest
import torch
from groups import make_group, make_scores

from squish_pl.errors import SquishError
from squish_pl.rl.advantages import zero_spread
from squish_pl.rl.rewards import (
    InvalidRule,
    LengthRule,
    Measured,
    OwnInformation,
    Reward,
    Squish,
    SquishNovel,
    carried_measures,
    group_rewards,
    reward_problems,
)
from squish_pl.score.measures.copies import Novel
from squish_pl.score.measures.savings import Squish as MeasuredSquish
from squish_pl.score.measures.support import Support
from squish_pl.score.measures.weighted import Weighted


class Told:
    """Stands in for a scorer: a summary's letters are its nats, one each."""

    def information(self, texts):
        return [torch.ones(len(text)) for text in texts]


class Length(Reward):
    def __call__(self, scores, group, scorer):
        return torch.tensor([float(len(summary or "")) for summary in group.summaries])


def rewarded(scores, summaries, rewards=(Squish(),), **invalid):
    group = make_group([1] * len(summaries), summaries=summaries)
    return group_rewards(rewards, InvalidRule(**invalid), scores, group, Told())


def test_invalid_summaries_earn_less_than_the_worst_valid_one():
    # good, negative but valid, over the budget, unparsable, empty
    scores = make_scores([0.05, -0.02, 0.0, 0.0, 0.0], within=[True, True, False, False, True])
    found = rewarded(scores, ["a", "b", "c", None, ""], margin=0.01)
    assert found.valid.tolist() == [True, True, False, False, False]
    assert found.total.tolist() == pytest.approx([0.05, -0.02, -0.03, -0.03, -0.03], abs=1e-15)
    assert rewarded(scores, ["a", "b", "c", None, ""], earns=0.0).total.tolist() == [0.05, -0.02, 0.0, 0.0, 0.0]


def test_a_group_without_a_valid_summary_teaches_nothing():
    found = rewarded(make_scores([0.0, 0.0], within=[False, False]), [None, None])
    assert zero_spread(found.total.unsqueeze(0)).tolist() == [True]


def test_components_add_up_with_their_weights_and_are_told_before_them():
    scores = make_scores([0.10, 0.20], novel=[0.03, 0.01], information=10.0)
    rewards = [Squish(2.0), SquishNovel(0.5), OwnInformation(0.1), Length(0.01, "letters")]
    found = rewarded(scores, ["ab", "abcde"], rewards)
    assert {name: part.tolist() for name, part in found.parts.items()} == {
        "squish": [0.10, 0.20],
        "novel": [0.03, 0.01],
        "own_information": pytest.approx([-2 / 10, -5 / 10], rel=1e-12),
        "letters": [2.0, 5.0],
    }
    by_hand = [0.2 + 0.015 - 0.02 + 0.02, 0.4 + 0.005 - 0.05 + 0.05]
    assert found.total.tolist() == pytest.approx(by_hand, rel=1e-12)
    assert found.total.dtype == torch.float64


def test_the_rule_for_invalid_summaries_stands_outside_the_components():
    """A component cannot reward what is over its budget, however high its value."""
    scores = make_scores([0.1, 0.2, 0.0], within=[True, True, False])
    found = rewarded(scores, ["a", "ab", "a" * 1000], [Squish(), Length(1.0)], margin=0.5)
    assert found.total.tolist() == pytest.approx([1.1, 2.2, 0.6], rel=1e-12)
    assert found.parts["length"].tolist() == [1.0, 2.0, 1000.0]


def test_names_are_ones_own_and_not_those_of_the_sum():
    assert [reward.name for reward in (Squish(), SquishNovel(), OwnInformation(), Length())] == [
        "squish",
        "novel",
        "own_information",
        "length",
    ]
    assert reward_problems([Squish(), SquishNovel()]) == []
    assert reward_problems([]) == ["rewards must name at least one"]
    assert reward_problems([Squish(), Squish(0.5)]) == ["rewards: 2 are called 'squish': give each a name of its own"]
    (problem,) = reward_problems([Length(1.0, "mean")])
    assert "must not be one of mean, std, best, zero_spread" in problem
    (problem,) = reward_problems([Measured(Novel(0), name="best")])[1:]
    assert problem == "rewards (best): n must be at least 1, but is 0"
    (problem,) = reward_problems([Length(math.nan)])
    assert problem == "rewards (length): weight must be a finite number, but is nan"


@pytest.mark.parametrize("reward", [Length(1.0, "squish"), Squish(1.0, "novel"), Measured(MeasuredSquish())])
def test_the_scores_figures_are_their_own_components(reward):
    (problem,) = reward_problems([reward])
    owner = {"squish": "Squish", "novel": "SquishNovel"}[reward.name]
    assert problem.endswith(f"name must not be '{reward.name}': reward/{reward.name} shows what {owner} gives")
    assert reward_problems([Squish(1.0, "plain")]) == []


NAN = math.nan


def test_a_measure_is_rewarded_and_its_nan_never_is():
    # two that count; one that counts of which nothing can be told; over the budget, unparsable, empty
    support = [-1.0, -3.0, NAN, NAN, NAN, NAN]
    within = [True, True, True, False, False, True]
    scores = make_scores([0.1, 0.2, 0.3, 0.0, 0.0, 0.0], within=within, support=support)
    summaries = ["a", "b", "c", "d", None, ""]
    found = rewarded(scores, summaries, [Measured(Support(), 0.5), Squish(10.0)], margin=0.25)
    # 10 * 0.1 - 0.5 and 10 * 0.2 - 1.5; the others a margin below the worse of them, not below that of the third
    assert found.total.tolist() == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25, 0.25], rel=1e-12)
    assert found.valid.tolist() == [True, True, True, False, False, False]
    assert found.parts["support"].tolist()[:2] == [-1.0, -3.0]
    assert found.parts["support"].isnan().tolist() == [False, False, True, True, True, True]
    at_zero = rewarded(scores, summaries, [Measured(Support())], earns=0.0)
    assert at_zero.total.tolist() == [-1.0, -3.0, 0.0, 0.0, 0.0, 0.0]


def test_a_weight_of_zero_shows_a_measure_and_rewards_nothing_of_it():
    scores = make_scores([0.1, 0.2], support=[NAN, -2.0])
    found = rewarded(scores, ["a", "b"], [Squish(), Measured(Support(), 0.0)])
    assert found.total.tolist() == [0.1, 0.2]
    assert list(found.parts) == ["squish", "support"]


def test_a_group_of_which_nothing_can_be_told_teaches_nothing():
    found = rewarded(make_scores([0.1, 0.2], support=[NAN, NAN]), ["a", "b"], [Measured(Support())])
    assert found.total.tolist() == [0.0, 0.0]
    assert zero_spread(found.total.unsqueeze(0)).tolist() == [True]


def test_a_measure_is_called_by_its_key_and_the_scorer_must_carry_it():
    weighted = Weighted([(MeasuredSquish(), 1.0), (Novel(2), -0.5)])
    assert [Measured(m).name for m in (Support(), Novel(3), weighted)] == [
        "support",
        "novel_3",
        "1_squish_-0.5_novel_2",
    ]
    assert Measured(Support(), name="backed").name == "backed"
    with pytest.raises(SquishError, match=r"does not carry the measure 'novel 3' \(it has novel 2\)"):
        rewarded(make_scores([0.1], novel_2=[0.1]), ["a"], [Measured(Novel(3))])


def test_a_scorer_carries_what_was_asked_for_and_what_rewards_need_once_each():
    asked, needed = Novel(2), Novel(2)
    rewards = [Squish(), Measured(Support()), Measured(needed), Measured(Support(), 0.5, "again")]
    carried = carried_measures([asked, Novel(3)], rewards)
    assert [measure.name for measure in carried] == ["novel 2", "novel 3", "support"]
    assert carried[0] is asked
    assert carried_measures([], [Squish(), OwnInformation(), Length()]) == []


def test_a_component_of_another_shape_is_named():
    class Sum(Reward):
        def __call__(self, scores, group, scorer):
            return scores.score.sum()

    with pytest.raises(ValueError, match=r"the reward 'sum' gave \(\): expected one number for each of the group"):
        rewarded(make_scores([0.1, 0.2]), ["a", "b"], [Sum()])


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"margin": -1.0}, "margin"), ({"earns": math.inf}, "earns"), ({"margin": math.nan}, "margin")],
)
def test_rules_that_are_none(settings, words):
    (problem,) = InvalidRule(**settings).problems()
    assert problem.startswith(f"{words} must")
    assert InvalidRule().problems() == InvalidRule(earns=0.0).problems() == []


def test_what_the_rule_for_lengths_takes():
    rule = LengthRule(power=2.0, target=0.5)
    used = torch.tensor([0.25, 0.5, 1.0, 0.0, float("nan")], dtype=torch.float64)
    assert rule.factor(used).tolist() == pytest.approx([0.25, 1.0, 1.0, 0.0, float("nan")], nan_ok=True)
    assert LengthRule(power=-1, target=0).problems() == [
        "power must be a number of at least 0, but is -1",
        "target must be a share of the budget above 0 and at most 1, but is 0",
    ]
