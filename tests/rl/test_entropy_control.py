"""Controls of the entropy: their steps on scripted rounds, and what they do to tokens, by hand."""

import math

import pytest
import torch

from squish_pl.rl.entropy_control import Adapo, EntropyBonus, KlCov, PassTokens, RepoR, mean_advantage
from squish_pl.rl.losses import ClippedLoss, LossParts, PolicyLoss
from squish_pl.types import Experience

LOW, HIGH = 0.5, 1.5  # below and above a target of 1 nat


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def strengths(control, *entropies):
    found = []
    for entropy in entropies:
        control.observe(entropy)
        found.append(control.strength)
    return found


def tokens(new, old, advantages, weights, entropies=None):
    sampled = double(old)
    empty = torch.zeros_like(sampled) if entropies is None else entropies
    return PassTokens(new, sampled, sampled, double(advantages), double(weights), empty)


def row(old_log_probs, advantage, weight=0.125):
    old = torch.tensor(old_log_probs)
    return Experience(torch.arange(3), torch.zeros(len(old), dtype=torch.long), old, advantage, weight)


class TestTarget:
    def test_a_share_is_that_of_the_first_round(self):
        control = RepoR("80%")
        assert math.isnan(control.goal)
        control.observe(2.5)
        assert control.goal == pytest.approx(2.0, rel=1e-12)
        control.observe(0.3)
        assert control.goal == pytest.approx(2.0, rel=1e-12)

    @pytest.mark.parametrize("target", [1.25, "1.25", 2])
    def test_nats_are_nats_from_the_start(self, target):
        control = RepoR(target)
        assert control.goal == float(target)
        control.observe(9.0)
        assert control.goal == float(target)

    def test_an_entropy_on_the_target_moves_nothing(self):
        control = RepoR(1.0)
        assert strengths(control, LOW, 1.0, 1.0, LOW) == [2e-4, 2e-4, 2e-4, 4e-4]

    @pytest.mark.parametrize("target", [0, -1.0, math.inf, math.nan, "0%", "-5%", "much", "1.2.3%", "%", ""])
    def test_what_is_none(self, target):
        (problem,) = RepoR(target).problems(ClippedLoss(), 1)
        assert problem.startswith("target must be a number of nats above 0 or a share")
        assert repr(target) in problem


class TestRepoR:
    def test_zeta_on_a_scripted_run(self):
        control = RepoR(1.0, least=0.01, most=0.05)
        assert control.strength == 0.01
        # doubles up to the most, halves down to the least, flips there, doubles on the other side, and back again
        up = strengths(control, LOW, LOW, LOW, LOW)
        assert up == pytest.approx([0.02, 0.04, 0.05, 0.05], rel=1e-12)
        down = strengths(control, *[HIGH] * 8)
        assert down == pytest.approx([0.025, 0.0125, 0.01, -0.01, -0.02, -0.04, -0.05, -0.05], rel=1e-12)
        back = strengths(control, *[LOW] * 5)
        assert back == pytest.approx([-0.025, -0.0125, -0.01, 0.01, 0.02], rel=1e-12)

    def test_its_own_bounds_are_the_papers(self):
        control = RepoR(1.0)
        assert strengths(control, *[LOW] * 11)[-4:] == [0.0256, 0.05, 0.05, 0.05]
        assert strengths(control, *[HIGH] * 25)[-1] == -0.05

    def test_advantages_by_hand(self):
        control = RepoR(1.0)
        control.strength = 0.5
        log_probs = double([-1.0, -4.0, -1.0, -4.0, -1.0])
        got = control.advantages(double([2.0, 2.0, -2.0, -2.0, 0.0]), log_probs)
        # 2 * (1 + 0.5), 2 * (1 + 2), -2 * (1 - 0.5), -2 * (1 - 2) would be 2 and is held at 0
        assert got.tolist() == [3.0, 6.0, -1.0, 0.0, 0.0]
        control.strength = -0.5
        got = control.advantages(double([2.0, 2.0, -2.0, -2.0, 0.0]), log_probs)
        assert got.tolist() == [1.0, 0.0, -3.0, -6.0, 0.0]

    @pytest.mark.parametrize(("least", "most"), [(0.0, 0.05), (0.1, 0.05), (1e-4, math.inf), (math.nan, 0.05)])
    def test_bounds_that_are_none(self, least, most):
        (problem,) = RepoR(1.0, least, most).problems(ClippedLoss(), 1)
        assert "least and most" in problem


class TestAdapo:
    def test_the_clip_on_a_scripted_run(self):
        loss = ClippedLoss(0.2, 0.28)
        control = Adapo(1.0, least=0.25, most=0.31, step=0.02)
        own = control.attach(loss)
        assert (type(own), own.low, own.high) == (ClippedLoss, 0.2, 0.28)
        seen = []
        for entropy in (LOW, LOW, LOW, HIGH, HIGH, HIGH, HIGH):
            control.observe(entropy)
            control.begin([])
            seen.append(own.high)
        assert seen == pytest.approx([0.30, 0.31, 0.31, 0.29, 0.27, 0.25, 0.25], rel=1e-12)
        assert loss.high == 0.28  # another run may hold the very same object
        assert control.figures() == {"entropy/target": 1.0, "entropy/clip_high": own.high}

    def test_a_loss_without_an_upper_clip_and_a_single_pass(self):
        class Plain(PolicyLoss):
            def __call__(self, log_probs, old_log_probs, advantages, weights, entropies):
                return LossParts(log_probs.sum(), {})

        step, clip, passes = Adapo(1.0, step=0.0).problems(Plain(), 1)
        assert step == "step must be a finite number above 0, but is 0.0"
        assert "Plain does not have" in clip
        assert "learn.policy_passes 1" in passes
        assert Adapo(1.0).problems(ClippedLoss(), 2) == []


class TestEntropyBonus:
    def test_the_coefficient_on_a_scripted_run(self):
        control = EntropyBonus(1.0, most=0.3, step=0.125)
        assert control.strength == 0.0
        rounds = [HIGH, LOW, LOW, LOW, HIGH, LOW, HIGH, HIGH, HIGH]
        acting, found = [], []
        for entropy in rounds:
            found += strengths(control, entropy)
            acting.append(control.entropy_gradient)
        assert found == pytest.approx([0.0, 0.125, 0.25, 0.3, 0.175, 0.3, 0.175, 0.05, 0.0], rel=1e-12)
        assert acting == [False, True, True, True, False, True, False, False, False]  # never above the target

    def test_the_bonus_by_hand(self):
        control = EntropyBonus(1.0, step=0.125, most=1.0)
        control.observe(LOW)
        # tokens 2 and 1 of weight 1/8: mean |A| = (2 * 0.3 + 1 * 0.6) / 3 = 0.4
        control.begin([row([-1.0, -1.0], 0.3), row([-1.0], -0.6)])
        entropies = double([0.5, 1.0, 2.0]).requires_grad_()
        penalty = control.penalty(tokens(double([-1.0] * 3), [-1.0] * 3, [0.3, 0.3, -0.6], [0.125] * 3, entropies))
        assert penalty.item() == pytest.approx(-0.125 * 0.4 * 3.5 / 8, rel=1e-12)
        penalty.backward()
        assert entropies.grad.tolist() == pytest.approx([-0.125 * 0.4 / 8] * 3, rel=1e-12)
        control.observe(HIGH)
        assert control.penalty(tokens(double([-1.0]), [-1.0], [0.3], [0.125], entropies[:1])) is None

    def test_settings_that_are_none(self):
        assert len(EntropyBonus(1.0, most=0.0, step=math.nan).problems(ClippedLoss(), 1)) == 2
        assert EntropyBonus(1.0).problems(ClippedLoss(), 1) == []


class TestKlCov:
    def test_the_coefficient_on_a_scripted_run(self):
        control = KlCov(1.0, least=0.3, most=3.0)
        assert strengths(control, LOW, LOW, HIGH, HIGH, HIGH, HIGH, LOW) == [2.0, 3.0, 1.5, 0.75, 0.375, 0.3, 0.6]

    def test_the_choice_and_the_penalty_by_hand(self):
        rows = [row([-0.5, -3.5], 0.5), row([-1.0, -1.0], -0.5)]
        # mean logp -1.5, mean A 0: covariances 0.5, -1, -0.25, -0.25; the top half of four tokens is two
        old, advantages = [-0.5, -3.5, -1.0, -1.0], [0.5, 0.5, -0.5, -0.5]
        ratios = double([2.0, 4.0, 0.5, 0.5])
        for share, chosen in ((0.25, [0]), (0.01, [0]), (0.3, [0, 2, 3]), (1.0, [0, 1, 2, 3])):  # equal ones together
            control = KlCov(1.0, share=share)
            control.observe(LOW)
            control.begin(rows)
            new = (double(old) + ratios.log()).requires_grad_()
            penalty = control.penalty(tokens(new, old, advantages, [0.125] * 4))
            terms = [float(r) - 1 - math.log(r) for r in ratios]
            # coefficient 2, mean |A| 0.5
            assert penalty.item() == pytest.approx(sum(terms[i] for i in chosen) / 8, rel=1e-12)
            penalty.backward()
            expected = [(float(r) - 1) / 8 if i in chosen else 0.0 for i, r in enumerate(ratios)]
            assert new.grad.tolist() == pytest.approx(expected, rel=1e-12)

    def test_a_ratio_beyond_all_numbers_that_is_left_out_does_no_harm(self):
        control = KlCov(1.0, share=0.25)
        control.begin([row([-0.5, -900.0], 0.5), row([-1.0, -1.0], -0.5)])
        new = double([-0.4, -1.0, -1.0, -1.0]).requires_grad_()
        control.penalty(tokens(new, [-0.5, -900.0, -1.0, -1.0], [0.5, 0.5, -0.5, -0.5], [0.125] * 4)).backward()
        assert new.grad.isfinite().all()
        assert control.penalty(tokens(new, [-0.5, -900.0, -1.0, -1.0], [0.5, 0.5, -0.5, -0.5], [0.125] * 4)).isfinite()

    def test_settings_that_are_none(self):
        problems = KlCov(1.0, share=0.0, start=99.0).problems(ClippedLoss(), 1)
        assert [p.split()[0] for p in problems] == ["share", "start", "it"]
        assert KlCov(1.0).problems(ClippedLoss(), 2) == []


def test_mean_advantage_counts_tokens_by_their_weights():
    # two tokens of weight 0.1 and |A| = 1, three of weight 0.2 and |A| = 2: (0.2 + 1.2) / 0.8
    rows = [row([-1.0, -1.0], -1.0, weight=0.1), row([-1.0] * 3, 2.0, weight=0.2)]
    assert mean_advantage(rows) == pytest.approx(1.75, rel=1e-12)
    assert mean_advantage([]) == 0.0


@pytest.mark.parametrize("make", [RepoR, Adapo, EntropyBonus, KlCov])
def test_a_resumed_control_goes_on_as_an_uninterrupted_one_would(make):
    script = [3.0, 2.9, 2.2, 2.0, 1.7, 2.5, 2.6, 2.3, 2.1, 1.0, 0.9]
    for stop in range(len(script)):
        whole, first, second = make("75%"), make("75%"), make("75%")
        for control in (whole, first, second):
            control.attach(ClippedLoss())
        for entropy in script[:stop]:
            whole.observe(entropy)
            first.observe(entropy)
        second.load_state_dict(first.state_dict())
        for entropy in script[stop:]:
            whole.observe(entropy)
            second.observe(entropy)
            assert second.figures() == whole.figures()
            assert second.entropy_gradient == whole.entropy_gradient


def test_a_changed_target_counts_when_a_run_goes_on():
    first, second, third = RepoR("80%"), RepoR("50%"), RepoR(0.7)
    first.observe(2.0)
    for control in (second, third):
        control.load_state_dict(first.state_dict())
    assert (first.goal, second.goal, third.goal) == (1.6, 1.0, 0.7)
