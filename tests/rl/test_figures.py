"""Every figure of a round by hand."""

import math

import pytest
import torch
from groups import make_group, make_scores

from squish_pl.errors import ConfigError
from squish_pl.rl.figures import PassTotals, policy_figures, reward_figures, rollout_figures, source_figures
from squish_pl.rl.losses import LossParts
from squish_pl.rl.rewards import GroupRewards
from squish_pl.types import Finish

NAN = math.nan


def test_rollouts():
    one = make_group(
        [2, 3, 1],
        summaries=["a", "", None],
        finish=[Finish.CLOSED, Finish.CLOSED, Finish.CAPPED],
        entropies=[[1.0, 2.0, 9.0], [3.0, 4.0, 5.0], [6.0, 9.0, 9.0]],
    )
    other = make_group(
        [1, 1, 5],
        summaries=[None, None, "b"],
        finish=[Finish.OUTGROWN, Finish.ENDED, Finish.CLOSED],
        entropies=[[0.5, 9.0, 9.0, 9.0, 9.0], [0.5, 9.0, 9.0, 9.0, 9.0], [1.0, 1.0, 1.0, 1.0, 1.0]],
    )
    other.token_ids[1] = other.token_ids[0]  # the same completion twice
    assert rollout_figures([one, other]) == {
        "rollout/closed": pytest.approx(3 / 6),
        "rollout/outgrown": pytest.approx(1 / 6),
        "rollout/capped": pytest.approx(1 / 6),
        "rollout/ended": pytest.approx(1 / 6),
        "rollout/parsed": pytest.approx(3 / 6),  # an empty summary is parsed
        "rollout/length": pytest.approx(13 / 6),
        "rollout/length_max": 5.0,
        "rollout/entropy": pytest.approx((1 + 2 + 3 + 4 + 5 + 6 + 0.5 + 0.5 + 5) / 13),  # over tokens, not rows
        "rollout/distinct": pytest.approx((3 / 3 + 2 / 3) / 2),
    }


def group_of(total, valid, **parts):
    def double(values):
        return torch.tensor(values, dtype=torch.float64)

    valid = torch.tensor(valid)
    parts_ = {name: double(part) for name, part in parts.items()}
    return GroupRewards(double(total), valid, parts_, valid)


def test_scores_by_source():
    groups = [make_group([1, 1], source=name) for name in ("news", "chats", "news", "")]
    scores = [
        make_scores([0.1, 0.4], novel=[0.0, 0.2]),
        make_scores([0.6, 0.8], novel=[0.3, 0.1]),
        make_scores([0.0, 0.3], novel=[0.0, 0.0]),
        make_scores([9.0, 9.0]),
    ]
    assert source_figures(groups, scores) == {
        "source/news/squish": pytest.approx(0.2),  # 0.1, 0.4, 0 and 0.3
        "source/news/novel": pytest.approx(0.05),
        "source/chats/squish": pytest.approx(0.7),
        "source/chats/novel": pytest.approx(0.2),
    }
    assert source_figures(groups[3:], scores[3:]) == {}


def test_rewards():
    groups = [
        group_of([0.1, 0.4], [True, True], support=[-1.0, NAN], length=[3.0, 5.0], never=[NAN, NAN]),
        group_of([0.2, 0.2], [False, False], support=[NAN, -2.0], length=[7.0, 1.0], never=[NAN, NAN]),
    ]
    scores = [
        make_scores([0.1, 0.4], novel=[0.05, 0.01], novel_2=[0.1, 0.2], support=[-3.0, NAN], never=[NAN, NAN]),
        make_scores([0.0, 0.02], novel=[0.0, 0.0], novel_2=[0.0, 0.1], support=[-5.0, NAN], never=[NAN, NAN]),
    ]
    deviation = (2 * 0.15**2) ** 0.5  # of 0.1 and 0.4, by n - 1
    assert reward_figures(groups, scores) == {
        "reward/mean": pytest.approx(0.9 / 4),
        "reward/std": pytest.approx((deviation + 0.0) / 2),
        "reward/best": pytest.approx((0.4 + 0.2) / 2),
        "reward/zero_spread": 0.5,
        "reward/squish": pytest.approx(0.52 / 4),
        "reward/novel": pytest.approx(0.06 / 4),
        "reward/length": 4.0,
        "reward/support": -1.5,  # of the two that have a value; "never" has none
        "score/novel_2": pytest.approx(0.4 / 4),
        "score/support": -4.0,
        "rollout/within_budget": 0.5,
    }


def test_the_scores_are_shown_whatever_is_rewarded():
    groups = [group_of([1.0, 2.0], [True, True], length=[1.0, 2.0])]
    figures = reward_figures(groups, [make_scores([0.1, 0.3], novel=[0.0, 0.1])])
    assert figures["reward/squish"] == pytest.approx(0.2)
    assert figures["reward/novel"] == pytest.approx(0.05)


def add(totals, loss, sums, entropies, log_probs, sampled, lengths):
    parts = LossParts(torch.tensor(loss), {name: torch.tensor(value) for name, value in sums.items()})
    totals.add(parts, *map(torch.tensor, (entropies, log_probs, sampled)), torch.tensor(lengths))


def test_policy_passes_of_different_sizes():
    first, second = PassTotals(grad_norm=3.0), PassTotals(grad_norm=1.0)
    # two slices of the first pass, three tokens and one
    add(first, 0.5, {"ratio": 3.0, "kept": 2}, [1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [-1.5, -2.0, -2.0], [1, 2])
    add(first, 0.25, {"ratio": 1.5, "kept": 1}, [6.0], [-4.0], [-4.0], [1])
    add(second, -0.25, {"ratio": 1.0, "kept": 0}, [1.0, 1.0], [0.0, 0.0], [-9.0, -9.0], [2])
    assert [row.tolist() for row in first.log_probs] == [[-1.0], [-2.0, -3.0], [-4.0]]
    assert policy_figures([first, second]) == {
        "loss/policy": pytest.approx((0.75 - 0.25) / 2),
        "policy/grad_norm": 2.0,
        "policy/ratio": pytest.approx((4.5 / 4 + 1.0 / 2) / 2),  # a mean over tokens, then over passes
        "policy/kept": pytest.approx((3 / 4 + 0 / 2) / 2),
        "policy/entropy": pytest.approx((12 / 4 + 2 / 2) / 2),
        "policy/sampling_gap": pytest.approx((0.5 + 0.0 + 1.0 + 0.0) / 4),  # of the first pass, before any step
    }


@pytest.mark.parametrize("name", ["grad_norm", "entropy", "sampling_gap"])
def test_a_losss_sum_that_is_called_like_a_figure_of_every_pass_is_told(name):
    with pytest.raises(ConfigError, match=rf"a sum must not be called '{name}', since policy/{name} is"):
        add(PassTotals(), 0.5, {"ratio": 1.0, name: 2.0}, [1.0], [-1.0], [-1.0], [1])


def test_a_round_in_which_every_group_was_skipped():
    assert policy_figures([PassTotals(grad_norm=0.0), PassTotals(grad_norm=0.0)]) == {
        "loss/policy": 0.0,
        "policy/grad_norm": 0.0,
    }
