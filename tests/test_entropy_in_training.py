"""Controls of the entropy inside a module: gradients against the whole model's, slices, both ways, checkpoints."""

import dataclasses
import math

import pytest
import torch
from test_module import fit, gradients, make_module, make_rows

from squish_pl.errors import ConfigError
from squish_pl.module import SquishModule
from squish_pl.policy.memory.plan import MemorySettings
from squish_pl.rl.entropy_control import Adapo, EntropyBonus, KlCov, RepoR
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.losses import ClippedLoss
from squish_pl.rl.optimizer import OptimizerSettings

ENDLESS = 100.0  #: a target that the entropy of a tiny model never reaches
TWICE = LearnSettings(policy_passes=2)


def controls():
    return [
        RepoR(ENDLESS, least=0.05, most=0.4),
        Adapo(ENDLESS, most=0.4, step=0.05),
        EntropyBonus(ENDLESS, most=1.0, step=0.5),
        KlCov(ENDLESS, share=0.1),
    ]


def steered(control, **settings):
    module = make_module(**({"entropy": control, "learn": TWICE} | settings))
    if control is not None:
        control.observe(3.0)
        control.observe(3.0)
    return module


def moved(rows):
    """The rows as if the policy had moved since it sampled, so that ratios, clips and KL take part."""
    generator = torch.Generator().manual_seed(5)
    noise = [0.4 * torch.randn(len(row.old_log_probs), generator=generator) for row in rows]
    return [dataclasses.replace(r, old_log_probs=r.old_log_probs + n) for r, n in zip(rows, noise, strict=True)]


@pytest.mark.parametrize("passes", ["shared_prefix", "padded"])
@pytest.mark.parametrize("number", range(4))
def test_slices_give_the_gradient_of_the_whole(number, passes):
    control = controls()[number]
    module = steered(control, memory=MemorySettings(passes=passes))
    rows = moved(make_rows(module)[0])
    whole, totals = gradients(module, rows)
    plain, _ = gradients(steered(None, memory=MemorySettings(passes=passes)), rows)
    assert (plain - whole).norm() > 1e-3 * plain.norm()
    for tokens in (1, 120, 150, 200, 400):
        module.learner.plan.learning.value = module.learner.plan.whole = tokens
        sliced, sliced_totals = gradients(module, rows)
        assert (sliced - whole).norm() / whole.norm() < 1e-12
        assert (sliced_totals.penalty is None) == (totals.penalty is None)
        if totals.penalty is not None:
            assert totals.penalty != 0
            assert sliced_totals.penalty == pytest.approx(totals.penalty, rel=1e-12)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("number", range(4))
def test_the_gradient_is_that_of_the_whole_model_by_the_formulas(number, first):
    """One text at a time through the whole model, with the loss and the control written out."""
    temperature = 0.8
    control = controls()[number]
    rollout = dataclasses.replace(make_module().rollout, temperature=temperature)
    module = steered(control, rollout=rollout)
    rows = make_rows(module)[0]
    rows = rows if first else moved(rows)
    whole, totals = gradients(module, rows)
    module.zero_grad()
    loss, size, weight, flat = 0.0, 0.0, 0.0, []
    for row in rows:
        ids = torch.cat([row.prompt_ids, row.completion_ids])
        with module.backbone.mode(training=True):
            logits = module.backbone.language_model.model(input_ids=ids.unsqueeze(0)).logits[0]
        log_p = torch.log_softmax(logits / temperature, dim=-1)[len(row.prompt_ids) - 1 : -1]
        chosen = log_p.gather(1, row.completion_ids.unsqueeze(1)).squeeze(1)
        entropies = -(log_p.exp() * log_p).sum(dim=1)
        advantage = float(torch.tensor(row.advantage))  # float32, as a pass has it
        every = zip(chosen, entropies, row.old_log_probs.tolist(), strict=True)
        flat += [(c, e, o, advantage, row.weight) for c, e, o in every]
        size += row.weight * len(chosen) * abs(row.advantage)
        weight += row.weight * len(chosen)
    scale = size / weight
    mean_log_prob = sum(o for _, _, o, _, _ in flat) / len(flat)
    mean_advantage = sum(a for _, _, _, a, _ in flat) / len(flat)
    covariances = [(o - mean_log_prob) * (a - mean_advantage) for _, _, o, a, _ in flat]
    least = sorted(covariances, reverse=True)[math.ceil(0.1 * len(flat)) - 1]
    # two rounds below the target: zeta 0.05 -> 0.2, the clip 0.3 -> 0.4, the bonus 0 -> 1, the KL's coefficient 1 -> 4
    high = 0.4 if isinstance(control, Adapo) else 0.3
    for (chosen, entropy, old, advantage, w), covariance in zip(flat, covariances, strict=True):
        ratio = torch.exp(chosen - old)
        learnt = advantage
        if isinstance(control, RepoR):
            factor = 1 - 0.2 * old if advantage > 0 else 1 + 0.2 * old
            learnt = advantage * max(0.0, factor)
        loss = loss - w * torch.minimum(ratio * learnt, ratio.clamp(0.8, 1 + high) * learnt)
        if isinstance(control, EntropyBonus):
            loss = loss - 1.0 * scale * w * entropy
        if isinstance(control, KlCov) and covariance >= least - 1e-12:
            loss = loss + 4.0 * scale * w * (ratio - 1 - torch.log(ratio))
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in module.backbone.adapter_parameters()])
    assert (whole - expected).norm() / expected.norm() < 1e-6  # weights and advantages are rounded to float32
    assert totals.loss + (totals.penalty or 0.0) == pytest.approx(loss.item(), abs=1e-7)


@pytest.mark.parametrize("old_log_probs", ["sampling", "first_pass"])
@pytest.mark.parametrize("number", range(4))
def test_shared_prefix_and_padded_training_end_in_the_same_adapter(number, old_log_probs, tmp_path):
    adapters = []
    for passes in ("shared_prefix", "padded"):
        control = controls()[number]
        module = make_module(
            entropy=control,
            memory=MemorySettings(passes=passes),
            learn=LearnSettings(policy_passes=3, old_log_probs=old_log_probs),
            optimizer=OptimizerSettings(learning_rate=1e-3),
        )
        fit(module, tmp_path, rounds=2)
        assert "policy/ratio" in module.figures, "the test needs a last round that teaches something"
        assert module.figures["entropy/target"] == ENDLESS
        assert module.figures[f"entropy/{control.figure}"] == control.strength
        assert ("entropy/penalty" in module.figures) == isinstance(control, (EntropyBonus, KlCov))
        adapters.append(torch.cat([p.detach().flatten() for p in module.backbone.adapter_parameters()]))
    assert (adapters[0] - adapters[1]).norm() / adapters[0].norm() < 1e-8


def test_a_bonus_raises_the_entropy_and_its_absence_does_not(tmp_path):
    entropies = []
    for control in (None, EntropyBonus(ENDLESS, most=50.0, step=50.0)):
        module = make_module(entropy=control, optimizer=OptimizerSettings(learning_rate=0.01))
        fit(module, tmp_path, rounds=5)
        entropies.append(module.figures["rollout/entropy"])
    assert entropies[1] > entropies[0] + 0.05


def test_a_bonus_above_its_target_changes_nothing(tmp_path):
    adapters = []
    for control in (None, EntropyBonus(1e-6), RepoR(ENDLESS)):
        module = make_module(entropy=control, optimizer=OptimizerSettings(learning_rate=0.01))
        fit(module, tmp_path, rounds=2)
        adapters.append(torch.cat([p.detach().flatten() for p in module.backbone.adapter_parameters()]))
    assert torch.equal(adapters[0], adapters[1])
    assert not torch.equal(adapters[0], adapters[2])


def test_the_checkpoint_carries_the_control_of_the_same_kind_alone():
    first, checkpoint = steered(RepoR("80%")), {}
    first.engine.get_ready()
    first.on_save_checkpoint(checkpoint)
    same, other, none = (steered(control) for control in (RepoR("80%"), EntropyBonus(2.0), None))
    same.entropy.observe(1.0)
    for module in (same, other, none):
        module.engine.get_ready()
        module.on_load_checkpoint(checkpoint)
    assert same.entropy.state_dict() == first.entropy.state_dict() == {"strength": -2e-4, "first": 3.0}
    assert other.entropy.strength == 0.0
    # a checkpoint of a run without one begins it anew
    none.on_save_checkpoint(checkpoint)
    fresh = make_module(entropy=RepoR("80%"))
    fresh.engine.get_ready()
    fresh.on_load_checkpoint(checkpoint)
    assert fresh.entropy.strength == 1e-4


def test_what_is_wrong_is_told_with_everything_else():
    with pytest.raises(ConfigError) as caught:
        SquishModule(entropy=KlCov("much", share=0.0), loss=ClippedLoss(low=2.0))
    assert len(caught.value.problems) == 4
    for words in (
        "model.loss (ClippedLoss): low",
        "model.entropy (KlCov): target must be a number of nats above 0 or a share",
        "model.entropy (KlCov): share",
        "model.entropy (KlCov): it does nothing with learn.policy_passes 1",
    ):
        assert words in str(caught.value)


def test_a_round_that_teaches_nothing_is_survived_by_every_control():
    for control in controls():
        module = steered(control)
        module.engine.get_ready()
        totals = module.accumulate([], first=True)
        assert (totals.tokens, totals.penalty) == (0, None)
