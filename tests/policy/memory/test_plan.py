"""The memory plan: what phases cost, and what is chosen from it."""

import logging

import pytest
import torch
from squish_pl.memory import device, planner
from squish_pl.policy.decoding import GroupedDecoder
from squish_pl.policy.XX import completion_log_probs, pass_tokens
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model

from squish_pl.budget import Budget
from squish_pl.lm.halving import Limit
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings
from squish_pl.policy.memory.tracker import peak_bytes
from squish_pl.policy.trials import choose_way
from squish_pl.types import Document, Experience, Prompt


def make_backbone(architecture="qwen3", way="grouped"):
    backbone = Backbone(make_tiny_model(architecture), make_byte_tokenizer(), LoraSettings(r=4))
    choose_way(backbone.policy, way)
    return backbone


def make_group(prompt, completions):
    prompt_ids = torch.arange(prompt) % 256
    return [Experience(prompt_ids, torch.arange(n) % 256, torch.zeros(n), 0.0, 0.0) for n in completions]


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("way", ["grouped", "padded"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_policy_pass_takes_what_was_foretold(architecture, way, layers):
    backbone = make_backbone(architecture, way)
    costs = Costs(backbone)
    rows = make_group(4, [130] * 3)  # nearly all tokens are predicted, which is what the plan has to think of
    tokens = pass_tokens(backbone.policy, rows)
    assert tokens == (4 + 3 * 129 if way == "grouped" else 3 * 133)

    def work():
        log_probs, _ = completion_log_probs(backbone.policy, rows)
        log_probs.sum().backward()

    work()  # the gradients are there from now on
    foretold = costs.learning(tokens, layers)
    backbone.checkpoint_layers(layers)
    counted = peak_bytes(work)
    assert 0.98 * counted <= foretold < 1.2 * counted
    if layers == 1:
        assert foretold < costs.learning(tokens, 0)


def test_scoring_and_rollout_take_what_was_foretold():
    backbone = make_backbone()
    costs = Costs(backbone)
    counted = peak_bytes(lambda: backbone.reference.hidden(torch.zeros(2, 400, dtype=torch.long)))
    assert counted <= costs.scoring(800)
    prompts = [Prompt(Document(""), Budget.parse("1 char"), "", tuple(range(200)))] * 3

    def decode():
        with backbone.policy.generating() as model:
            decoder = GroupedDecoder(model, 4, 20)
            logits = decoder.prefill(prompts)
            for _ in range(19):
                logits = decoder.step(logits.argmax(-1))

    counted = peak_bytes(decode)
    assert counted <= costs.rollout(3, 200, 12, 20) < 2 * counted
    # two layers, keys and values of two heads of eight numbers
    assert costs.cache_bytes == 2 * 2 * 2 * 8 * 4


def test_counting_leaves_gradients_checkpointing_and_random_numbers_alone():
    backbone = make_backbone()
    backbone.checkpoint_layers(1)
    before = torch.random.get_rng_state()
    Costs(backbone).learning(100, 2)
    assert all(parameter.grad is None for parameter in backbone.adapter_parameters())
    assert backbone.checkpointed_layers == 1
    assert torch.equal(torch.random.get_rng_state(), before)


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
    plan = MemoryPlan(LineCosts(), MemorySettings(**settings), checkpointing, 64, scoring, most, offload)
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


def test_free_memory_of_this_machine():
    cpu = torch.device("cpu")
    assert 1e6 < device.used_bytes(cpu) < device.total_bytes(cpu)
    assert 0 < device.free_bytes(cpu) < device.total_bytes(cpu)


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert device.total_bytes(torch.device("cpu")) == 3_000_000
    assert device.free_bytes(torch.device("cpu")) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert device.free_bytes(torch.device("cpu")) > 3_000_000


def test_bad_settings_are_told():
    assert len(MemorySettings(margin=1.0, limit_gb=0).problems()) == 2
    assert MemorySettings().problems() == []
