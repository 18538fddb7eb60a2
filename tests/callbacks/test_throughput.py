"""Seconds and tokens per second by hand."""

import logging
from types import SimpleNamespace

import torch

from squish_pl.callbacks import Throughput
from squish_pl.callbacks.estimate import Estimate, in_words, rounds_left
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.phases import POLICY, ROLLOUT, SCORING, PhaseClock
from squish_pl.rl.warm_start import WarmStartSettings


def test_a_round_of_set_seconds_and_tokens():
    clock, logged = PhaseClock(), {}
    clock.seconds.update({ROLLOUT: 2.0, SCORING: 0.5, POLICY: 4.0})
    clock.tokens.update({ROLLOUT: 300, SCORING: 1000, POLICY: 100})
    clock.peak_bytes[SCORING] = 3_000_000_000
    module = SimpleNamespace(
        clock=clock, device=torch.device("cpu"), log_dict=lambda figures, batch_size: logged.update(figures)
    )
    Throughput().on_train_batch_end(None, module, None, None, 0)
    memory = {key: logged.pop(key) for key in list(logged) if key.startswith("memory/process")}
    assert logged == {
        "seconds/round": 6.5,
        "seconds/rollout": 2.0,
        "seconds/scoring": 0.5,
        "seconds/policy": 4.0,
        "tokens_per_second/rollout": 150.0,
        "tokens_per_second/scoring": 2000.0,
        "tokens_per_second/policy": 25.0,
        "memory/scoring_peak_gb": 3.0,
    }
    assert 0 < memory["memory/process_gb"] <= memory["memory/process_peak_gb"] * 1.05
    clock.start_round()
    logged.clear()
    Throughput().on_train_batch_end(None, module, None, None, 0)
    assert (logged["seconds/round"], logged["tokens_per_second/rollout"]) == (0.0, 0.0)
    assert "memory/scoring_peak_gb" not in logged


def test_after_three_rounds_a_run_tells_how_long_it_will_take(caplog):
    estimate = Estimate()
    with caplog.at_level(logging.INFO):
        for seconds in (900.0, 100.0, 140.0, 7.0):  # the first warms up
            estimate.add(seconds, 300)
        Estimate().add(1.0, None)
    assert [r.getMessage() for r in caplog.records] == [
        "a round takes about 2 min, validations left out: the 300 rounds ahead take about 10 h"
    ]
    assert [in_words(s) for s in (0.25, 42, 900, 12_600, 864_000)] == ["0.25 s", "42 s", "15 min", "3.5 h", "10 days"]


def test_rounds_left_follow_from_the_optimiser_steps():
    module = SimpleNamespace(learn=LearnSettings(policy_passes=4), warm_start=WarmStartSettings())
    left = [rounds_left(SimpleNamespace(max_steps=m, global_step=12), module) for m in (4000, 13, 12, 8, -1)]
    assert left == [997, 1, 0, 0, None]
    module.warm_start = WarmStartSettings(rounds=10, passes=1)  # 10 steps, then 4 a round
    assert rounds_left(SimpleNamespace(max_steps=18, global_step=4), module) == 8
