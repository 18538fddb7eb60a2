import logging
from types import SimpleNamespace

import pytest

from squish_pl.callbacks import EntropyMonitor
from squish_pl.errors import ConfigError
from squish_pl.rl.entropy_control import RepoR

FINE = {"rollout/entropy": 2.0, "rollout/distinct": 1.0, "reward/std": 0.02, "reward/zero_spread": 0.0}


def feed(monitor, *rounds, trainer=None, control=None):
    trainer = trainer or SimpleNamespace(should_stop=False)
    for changes in rounds:
        module = SimpleNamespace(figures=FINE | changes, entropy=control)
        monitor.on_train_batch_end(trainer, module, None, None, 0)
    return trainer


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if "collapse" in record.getMessage()]


@pytest.mark.parametrize(
    ("key", "bad"),
    [("rollout/entropy", 0.05), ("rollout/distinct", 0.2), ("reward/zero_spread", 0.9), ("reward/std", 0.001)],
)
def test_warns_once_when_the_average_crosses_and_again_after_a_recovery(key, bad, caplog):
    monitor = EntropyMonitor(window=2, spread_floor=0.01)
    feed(monitor, {}, {}, {})
    assert not warnings(caplog)
    feed(monitor, {key: bad}, {key: bad}, {key: bad})
    assert len(warnings(caplog)) == 1
    assert key in warnings(caplog)[0]
    feed(monitor, {}, {})  # recovered
    feed(monitor, {key: bad}, {key: bad})
    assert len(warnings(caplog)) == 2


def test_names_the_control_to_switch_on_or_its_target(caplog):
    low = [{"rollout/entropy": 0.0}] * 2
    feed(EntropyMonitor(window=2), *low)
    assert "or switch on a control of the entropy, such as model.entropy: RepoR" in warnings(caplog)[0]
    feed(EntropyMonitor(window=2), *low, control=RepoR(1.0))
    assert "or raise the target of model.entropy" in warnings(caplog)[1]


def test_waits_for_a_whole_window(caplog):
    monitor = EntropyMonitor(window=3)
    feed(monitor, {"rollout/entropy": 0.0}, {"rollout/entropy": 0.0})
    assert not warnings(caplog)
    feed(monitor, {"rollout/entropy": 0.0})
    assert len(warnings(caplog)) == 1


def test_rounds_of_a_warm_start_are_not_looked_at(caplog):
    monitor = EntropyMonitor(window=2)
    feed(monitor, *[{"reward/zero_spread": 1.0, "warm/loss": 3.0}] * 3, {"reward/zero_spread": 1.0})
    assert not warnings(caplog)
    feed(monitor, {"reward/zero_spread": 1.0})
    assert len(warnings(caplog)) == 1
    monitor.on_train_batch_end(None, SimpleNamespace(figures={"warm/loss": 1.0}), None, None, 0)


def test_stops_the_run_only_if_told_to():
    low = [{"rollout/entropy": 0.0}] * 2
    assert not feed(EntropyMonitor(window=2), *low).should_stop
    assert feed(EntropyMonitor(window=2, stop=True), *low).should_stop
    assert not feed(EntropyMonitor(window=2, stop=True), {}, {}).should_stop


def test_a_resumed_monitor_warns_when_an_uninterrupted_one_would(caplog):
    first = EntropyMonitor(window=2)
    feed(first, {"rollout/entropy": 0.0})
    second = EntropyMonitor(window=2)
    second.load_state_dict(first.state_dict())
    with caplog.at_level(logging.WARNING):
        feed(second, {"rollout/entropy": 0.0})
    assert len(warnings(caplog)) == 1
    third = EntropyMonitor(window=2)
    third.load_state_dict(second.state_dict())
    feed(third, {"rollout/entropy": 0.0})
    assert len(warnings(caplog)) == 1  # it had warned already


def test_a_missing_figure_is_named_with_those_there_are():
    with pytest.raises(KeyError, match=r"needs 'rollout/entropy'.*reward/std"):
        EntropyMonitor().on_train_batch_end(None, SimpleNamespace(figures={"reward/std": 1.0}), None, None, 0)
    with pytest.raises(ConfigError, match=r"entropy\.window"):
        EntropyMonitor(window=0)
