"""The memory plan: what is chosen from costs and free memory."""

import logging

import torch

from squish_pl.lm.halving import Limit
from squish_pl.policy.memory import plan as planner
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings


class LineCosts:
    """A model of ten layers in round figures: 10 bytes a token and layer, 1 for a checkpointed one."""

    layers = 10
    weights, gradients, optimizer_state = 1000, 100, 200
    device = torch.device("cpu")

    def learning(self, tokens, checkpointed):
        return tokens * (10 * (self.layers - checkpointed) + checkpointed)

    def scoring(self, tokens):
        return 2 * tokens

    def rollout(self, prompts, prompt_tokens, rows, new_tokens):
        return prompts * prompt_tokens + rows * new_tokens


def make_plan(
    monkeypatch,
    free,
    checkpointing="auto",
    most=10_000,
    offload=False,
    used=0,
    total=0,
    before=None,
    share=1,
    **settings,
):
    monkeypatch.setattr(planner, "_CPU_SHARE", share)
    for name, value in (("free_bytes", free), ("used_bytes", used), ("total_bytes", total)):
        monkeypatch.setattr(planner, name, lambda device, value=value: value)
    scoring = Limit("scoring pass", "tokens", most)
    taken = MemorySettings(checkpointing=checkpointing, micro_batch_tokens=most, max_rows=64, **settings)
    plan = MemoryPlan(LineCosts(), taken, scoring, offload)
    plan.settle(before)
    plan.settle_learning()
    return plan


def test_the_plan_takes_what_fits(monkeypatch):
    plan = make_plan(monkeypatch, free=20_300)
    assert plan.available == 20_000  # gradients and optimiser state put aside
    assert plan.whole == 200  # ten layers kept: 100 bytes a token
    assert plan.learning.value == 2000  # all checkpointed: 10 bytes a token
    assert plan.scoring.value == 1024  # more is slower on a CPU
    assert [plan.checkpointed(n) for n in (200, 201, 400, 2000, 9999)] == [0, 1, 6, 10, 10]
    # groups of 8 rows of 100 tokens behind 700 at most: 1,500 bytes a group
    assert plan.rows([700, 5, 5], 8, 100) == 24
    assert plan.rows([700] * 40, 8, 100) == 64  # 8 groups: the setting's bound
    assert plan.rows([4200] * 40, 8, 100) == 32  # 4 groups of 5,000
    assert plan.rows([40_000], 8, 100) == 8  # at least one


def test_fixed_checkpointing_and_plenty_of_memory(monkeypatch):
    assert make_plan(monkeypatch, 20_300, "none").learning.value == 200
    assert make_plan(monkeypatch, 20_300, "full").whole == 2000
    selective = make_plan(monkeypatch, 20_300, "selective")
    assert (selective.whole, selective.learning.value, selective.checkpointed(9)) == (363, 363, 5)
    plenty = make_plan(monkeypatch, 10**9)
    assert (plenty.whole, plenty.learning.value, plenty.checkpointed(10_000)) == (10_000, 10_000, 0)


def test_margin_limit_and_offload(monkeypatch):
    assert make_plan(monkeypatch, 10_000, total=20_000, margin=0.2).available == 10_000 - 4_000 - 300
    assert make_plan(monkeypatch, 10_000, offload=True).available == 9_900
    # 16,000 bytes in all, 9,000 of them taken
    assert make_plan(monkeypatch, 10_000, used=9_000, limit_gb=16e-6).available == 7_000 - 300
    assert make_plan(monkeypatch, 50).available == 0
    assert make_plan(monkeypatch, 10_000, share=0.45).available == 4_500 - 300  # holes between tensors


def test_running_out_takes_half_and_keeps_less_for_backward(monkeypatch):
    plan = make_plan(monkeypatch, free=20_300)
    plan.learning.take(150)
    assert plan.learning.halve(least=100)
    assert plan.learning.value == 100
    assert plan.available == 7_500  # the 15,000 bytes that 150 tokens seemed to need are not there
    assert plan.checkpointed(100) == 3
    plan.learning.take(100)
    assert plan.learning.halve(least=100)  # the smallest piece: recompute more
    assert plan.checkpointed(100) == 8  # the next half is 3,650 bytes
    tries = 0
    while plan.learning.halve(least=100):
        tries += 1
    assert plan.checkpointed(100) == 10
    assert tries <= 2


def test_a_resumed_plan_stays_as_it_was_while_it_fits(monkeypatch):
    plan = make_plan(monkeypatch, free=20_300)
    plan.learning.take(150)
    plan.learning.halve(100)
    state = plan.state()
    same = make_plan(monkeypatch, free=19_000, before=state)
    assert same.state() == state
    assert [same.checkpointed(n) for n in (50, 100)] == [plan.checkpointed(n) for n in (50, 100)]
    short = make_plan(monkeypatch, free=5_000, before=state)
    assert short.available == 4_700


def test_the_plan_is_told_in_words(monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        make_plan(monkeypatch, free=20_300)
    assert "200 tokens a policy pass, up to 2,000 for a large group" in caplog.text
    assert "1,024 tokens a scoring pass, at most 64 rows" in caplog.text


def test_bad_settings_are_told():
    assert len(MemorySettings(margin=1.0, limit_gb=0).problems()) == 2
    assert len(MemorySettings(micro_batch_tokens=0, max_rows=-1).problems()) == 2
    assert MemorySettings().problems() == []


def test_a_model_that_only_writes_scores_nothing(monkeypatch):
    for name, value in (("free_bytes", 10_000), ("total_bytes", 0)):
        monkeypatch.setattr(planner, name, lambda device, value=value: value)
    monkeypatch.setattr(planner, "_CPU_SHARE", 1)
    plan = MemoryPlan.for_writing(LineCosts(), MemorySettings(max_rows=64))
    plan.settle()
    assert plan.scoring.value == 0
    assert plan.available == 9_700
    assert plan.rows([700] * 40, 8, 100) == 48  # 6 groups of 1,500 bytes


def of_two(other):
    """Another process of the machine beside this one, whose figures are `other`."""
    return lambda value: [value, value if value is None else other]


def settled_beside(monkeypatch, other, before=None, device="cpu"):
    make_plan(monkeypatch, free=40_300)
    costs = LineCosts()
    costs.device = torch.device(device)
    limit = Limit("scoring pass", "tokens", 100)
    plan = MemoryPlan(costs, MemorySettings(margin=0), limit, of_node=of_two(other))
    plan.settle(before)
    return plan


def test_the_plan_of_a_machine_is_the_smallest_of_its_processes(monkeypatch):
    assert settled_beside(monkeypatch, (7000, 5000), device="meta").available == 5000
    assert settled_beside(monkeypatch, (90_000, 80_000), device="meta").available == 40_000
    # on a CPU they share what is free: 20,150 each, less gradients and optimiser state
    assert settled_beside(monkeypatch, (90_000, 80_000)).available == 19_850


def test_a_resumed_plan_has_to_fit_all_processes(monkeypatch):
    before = make_plan(monkeypatch, free=20_300).state()
    assert before["available"] == 20_000
    assert settled_beside(monkeypatch, (20_000, 0), before, "meta").available == 20_000
    assert settled_beside(monkeypatch, (19_999, 9000), before, "meta").available == 9000
