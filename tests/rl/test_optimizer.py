"""Warm-up, and what a resumed run does with other settings."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from squish_pl.rl.optimizer import (
    OptimizerSettings,
    _flat,
    apply_settings,
    begin_anew,
    make_optimizer,
    move_state,
    state_on_device,
)


def rates(optimizer, schedule, steps):
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def parameter():
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    weight.grad = torch.tensor([0.5, -0.25])
    return weight


def test_the_rate_rises_over_the_warm_up_and_stays():
    optimizer, schedule = make_optimizer([parameter()], OptimizerSettings(learning_rate=0.1, warmup_steps=3))
    assert rates(optimizer, schedule, 6) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rel=1e-12)


def test_a_run_resumed_in_its_warm_up_with_another_rate():
    before = OptimizerSettings(learning_rate=0.1, warmup_steps=3, betas=(0.9, 0.99), weight_decay=0.5)
    optimizer, schedule = make_optimizer([parameter()], before)
    rates(optimizer, schedule, 2)
    after = OptimizerSettings(learning_rate=0.4, warmup_steps=3, betas=(0.8, 0.95), weight_decay=0.25)
    resumed, resumed_schedule = make_optimizer([parameter()], after)
    resumed.load_state_dict(optimizer.state_dict())
    resumed_schedule.load_state_dict(schedule.state_dict())
    apply_settings(resumed, resumed_schedule, after)
    group = resumed.param_groups[0]
    assert (group["betas"], group["weight_decay"], group["initial_lr"]) == ((0.8, 0.95), 0.25, 0.4)
    # the moments are those of before: two steps of the same gradient g under beta 0.9 leave 0.19 g
    (state,) = resumed.state.values()
    assert state["exp_avg"].tolist() == pytest.approx([0.19 * 0.5, 0.19 * -0.25], rel=1e-6)
    assert state["step"] == 2
    # the third of four steps of the warm-up, of the new rate; then it stays
    assert rates(resumed, resumed_schedule, 3) == pytest.approx([0.3, 0.4, 0.4], rel=1e-12)


def test_without_a_change_nothing_changes():
    settings = OptimizerSettings(learning_rate=0.1, warmup_steps=3)
    optimizer, schedule = make_optimizer([parameter()], settings)
    rates(optimizer, schedule, 2)
    before = optimizer.state_dict()["param_groups"]
    apply_settings(optimizer, schedule, settings)
    assert optimizer.state_dict()["param_groups"] == before


def test_begun_anew_it_is_like_a_new_one():
    settings = OptimizerSettings(learning_rate=0.1, warmup_steps=3)
    used, fresh = ((p, *make_optimizer([p], settings)) for p in (parameter(), parameter()))
    rates(*used[1:], 4)
    with torch.no_grad():
        used[0].copy_(fresh[0])
    begin_anew(*used[1:], settings)
    assert not used[1].state
    assert rates(*used[1:], 5) == rates(*fresh[1:], 5)
    assert torch.equal(used[0], fresh[0])
    assert used[2].get_last_lr() == fresh[2].get_last_lr()


def test_the_state_comes_for_a_step_and_goes(monkeypatch):
    optimizer, _ = make_optimizer([parameter()], OptimizerSettings())
    optimizer.step()
    (state,) = optimizer.state.values()
    with state_on_device(optimizer, torch.device("meta"), offload=True):
        assert state["exp_avg"].device.type == state["exp_avg_sq"].device.type == "meta"
        assert state["step"].device.type == "cpu"
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros(2), torch.zeros(2)  # "meta" gives nothing back
    assert state["exp_avg"].device.type == "cpu"
    with state_on_device(optimizer, torch.device("meta"), offload=False):
        assert state["exp_avg"].device.type == "cpu"


def test_the_state_travels_in_one_copy():
    parameters = [torch.nn.Parameter(torch.randn(size)) for size in ((3, 4), (5,), (1, 2))]
    optimizer, _ = make_optimizer(parameters, OptimizerSettings())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    before = [state["exp_avg"].clone() for state in optimizer.state.values()]

    class Copies(TorchDispatchMode):
        """Counts copies between devices, as "meta" and back: of values there are none there."""

        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func is torch.ops.aten._to_copy.default
            return func(*args, **(kwargs or {}))

    with Copies() as copies:
        move_state(optimizer, torch.device("meta"))
    assert copies.count == 1
    for state, old in zip(optimizer.state.values(), before, strict=True):
        assert state["exp_avg"].shape == old.shape
        assert state["exp_avg"].is_meta
    move_state(optimizer, torch.device("meta"))  # there already


def test_moved_state_holds_the_same_values():
    parameters = [torch.nn.Parameter(torch.randn(size)) for size in ((3, 4), (5,))]
    optimizer, _ = make_optimizer(parameters, OptimizerSettings())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    states = list(optimizer.state.values())
    before = [state[name].clone() for state in states for name in ("exp_avg", "exp_avg_sq")]

    for _ in range(2):  # the second time they are parts of one already
        flat = _flat([state[name] for state in states for name in ("exp_avg", "exp_avg_sq")])
        assert torch.equal(flat, torch.cat([x.flatten() for x in before]))
        start = 0
        for state in states:
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = flat[start : start + state[name].numel()].view_as(state[name])
                start += state[name].numel()
    assert _flat([state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]).data_ptr() == flat.data_ptr()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.0}, "optimizer.learning_rate"),
        ({"learning_rate": float("nan")}, "optimizer.learning_rate"),
        ({"betas": (0.9, 1.0)}, "optimizer.betas"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay"),
        ({"max_grad_norm": float("inf")}, "optimizer.max_grad_norm"),
        ({"warmup_steps": -1}, "optimizer.warmup_steps"),
    ],
)
def test_settings_that_are_none(settings, words):
    (problem,) = OptimizerSettings(**settings).problems()
    assert problem.startswith(words)
