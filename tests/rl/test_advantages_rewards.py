import pytest
import torch

from squish_pl.budget import Budget
from squish_pl.rl.advantages import group_advantages, zero_spread
from squish_pl.rl.experience import make_experience, micro_batches
from squish_pl.rl.rewards import RewardSettings, group_rewards
from squish_pl.types import Document, Experience, Finish, Prompt, Rollouts, Scores, groups_of


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.1, 0.1, 0.1]], dtype=torch.float64)
    assert group_advantages(rewards, "mean").tolist() == [[-2.0, -1.0, 3.0], [0.0, 0.0, 0.0]]
    scaled = group_advantages(rewards, "mean_std", epsilon=0.0)
    assert scaled[0].tolist() == pytest.approx([-2 / 7**0.5, -1 / 7**0.5, 3 / 7**0.5], rel=1e-12)
    assert scaled[1].tolist() == [0.0, 0.0, 0.0]
    assert zero_spread(rewards).tolist() == [False, True]


def test_equal_rewards_give_exactly_zero_whatever_the_mean_rounds_to():
    rewards = torch.full((1, 7), 0.1, dtype=torch.float32)
    assert group_advantages(rewards, "mean_std").abs().max() == 0


def make_scores(score, novel=None, within=None, information=10.0):
    score = torch.tensor(score, dtype=torch.float64)
    novel = score if novel is None else torch.tensor(novel, dtype=torch.float64)
    within = torch.ones(len(score), dtype=torch.bool) if within is None else torch.tensor(within)
    return Scores(score, novel, score * information, information, within, torch.zeros(len(score), 1))


def test_invalid_summaries_earn_less_than_the_worst_valid_one():
    # good, negative but valid, over the budget, unparsable, empty
    scores = make_scores([0.05, -0.02, 0.0, 0.0, 0.0], within=[True, True, False, False, True])
    reward, valid = group_rewards(scores, ["a", "b", "c", None, ""], RewardSettings(invalid_margin=0.01))
    assert valid.tolist() == [True, True, False, False, False]
    assert reward.tolist() == pytest.approx([0.05, -0.02, -0.03, -0.03, -0.03], abs=1e-15)
    reward, _ = group_rewards(scores, ["a", "b", "c", None, ""], RewardSettings(invalid=0.0))
    assert reward.tolist() == [0.05, -0.02, 0.0, 0.0, 0.0]


def test_a_group_without_a_valid_summary_teaches_nothing():
    scores = make_scores([0.0, 0.0], within=[False, False])
    reward, _ = group_rewards(scores, [None, None], RewardSettings())
    assert zero_spread(reward.unsqueeze(0)).tolist() == [True]


def test_objective_and_own_information():
    scores = make_scores([0.10, 0.20], novel=[0.03, 0.01])
    reward, _ = group_rewards(scores, ["a", "b"], RewardSettings(objective="squish_novel"))
    assert reward.tolist() == [0.03, 0.01]
    own = torch.tensor([2.0, 5.0])
    reward, _ = group_rewards(scores, ["a", "b"], RewardSettings(own_information=0.5), own)
    assert reward.tolist() == pytest.approx([0.10 - 0.5 * 2 / 10, 0.20 - 0.5 * 5 / 10], rel=1e-12)
    with pytest.raises(ValueError, match="own information is needed"):
        group_rewards(scores, ["a", "b"], RewardSettings(own_information=0.5))


def make_group(lengths, prompt_length=3):
    width = max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    return Rollouts(
        Prompt(Document("d"), Budget.parse("9 chars"), "", tuple(range(prompt_length))),
        torch.arange(len(lengths) * width).reshape(len(lengths), width) * mask,
        mask,
        -torch.ones(len(lengths), width) * mask,
        torch.ones(len(lengths), width) * mask,
        torch.full((len(lengths),), int(Finish.CLOSED)),
        ["s"] * len(lengths),
    )


def test_experience_rows_carry_their_share_of_the_loss():
    groups = [make_group([1, 3]), make_group([2, 2]), make_group([4, 4])]
    advantages = torch.tensor([[0.5, -0.5], [0.0, 0.0], [1.0, -1.0]])
    rows = make_experience(groups, advantages, skip=torch.tensor([False, True, False]))
    assert [len(row.completion_ids) for row in rows] == [1, 3, 4, 4]
    assert [row.advantage for row in rows] == [0.5, -0.5, 1.0, -1.0]
    # every document, skipped ones too, counts a third; within it every generated token the same
    assert [row.weight for row in rows] == pytest.approx([1 / 12, 1 / 12, 1 / 24, 1 / 24], rel=1e-12)
    assert rows[1].completion_ids.tolist() == [3, 4, 5]


def tokens(rows):
    """A prompt's tokens once for its group, and the completions'."""
    return sum(len(group[0].prompt_ids) + sum(len(row.completion_ids) for row in group) for group in groups_of(rows))


def make_rows(groups):
    rows = []
    for p, lengths in groups:
        prompt = torch.zeros(p)
        rows += [Experience(prompt, torch.zeros(n), torch.zeros(n), 0.0, 0.0) for n in lengths]
    return rows


@pytest.mark.parametrize(
    ("most", "whole", "expected"),
    [
        (100, None, [5]),  # everything at once: 10 + 3 + 3 + 3, 5 + 1 + 2
        (27, None, [5]),
        (26, None, [3, 2]),  # a group is not taken apart to fill a slice
        (27, 20, [3, 2]),
        (16, None, [2, 1, 2]),  # too long for one slice: as many completions as fit
        (13, None, [1, 1, 1, 2]),
        (1, None, [1, 1, 1, 1, 1]),  # a single completion may take more
    ],
)
def test_slices_by_a_token_budget(most, whole, expected):
    rows = make_rows([(10, [3, 3, 3]), (5, [1, 2])])
    parts = list(micro_batches(rows, tokens, most, whole))
    assert [len(part) for part in parts] == expected
    assert [id(row) for part in parts for row in part] == [id(row) for row in rows]
