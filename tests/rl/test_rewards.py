"""Components, their weighted sum, and the rule for invalid summaries."""

import math

import pytest
import torch
from groups import make_group, make_scores

from squish_pl.rl.advantages import zero_spread
from squish_pl.rl.rewards import (
    InvalidRule,
    OwnInformation,
    Reward,
    Squish,
    SquishNovel,
    group_rewards,
    reward_problems,
)


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
    (problem,) = reward_problems([Length(math.nan)])
    assert problem == "rewards (length): weight must be a finite number, but is nan"


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
