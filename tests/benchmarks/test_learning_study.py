"""The learning study: its settings, its report, and the command itself on a tiny model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

STUDY = Path(__file__).parents[2] / "benchmarks" / "learning"


def load(name):
    sys.path.insert(0, str(STUDY))
    try:
        spec = importlib.util.spec_from_file_location(f"learning_{name}", STUDY / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(STUDY))
    return module


def test_an_arm_is_laid_over_what_all_share():
    low = {"model": {"learn": {"advantage": "mean_std", "policy_passes": 1}, "rewards": [1]}}
    high = {"model": {"learn": {"policy_passes": 2}, "rewards": [2], "entropy": {"class_path": "RepoR"}}}
    assert load("study").merged(low, high) == {
        "model": {
            "learn": {"advantage": "mean_std", "policy_passes": 2},
            "rewards": [2],
            "entropy": {"class_path": "RepoR"},
        }
    }
    assert low["model"]["learn"]["policy_passes"] == 1


def test_a_class_takes_the_place_of_another_whole():
    low = {"logger": {"class_path": "A", "init_args": {"a": 1}}}
    high = {"logger": {"class_path": "B", "init_args": {"b": 2}}}
    assert load("study").merged(low, high) == high


def test_curves_of_a_run_that_was_stopped_are_one(tmp_path):
    report = load("report")
    for number, rows in enumerate((["1,0.5,", "2,0.4,"], ["2,0.3,", "3,,0.1"])):
        folder = tmp_path / f"version_{number}"
        folder.mkdir()
        (folder / "metrics.csv").write_text("step,rollout/entropy,val/squish\n" + "\n".join(rows) + "\n")
    assert report.read_curves(tmp_path) == {
        "rollout/entropy": [(1, 0.5), (2, 0.3)],
        "val/squish": [(3, 0.1)],
    }


def test_every_preparation_is_there():
    arms = yaml.safe_load((STUDY / "arms.yaml").read_text())
    assert {arm["start"] for arm in arms["arms"].values() if "start" in arm} <= set(arms["preparations"])


@pytest.mark.slow
def test_the_command_leaves_a_report_and_does_nothing_twice(tiny_model_folder, tmp_path):
    base = tmp_path / "base.yaml"
    settings = yaml.safe_load((STUDY / "base.yaml").read_text())
    settings["model"]["base_model"] = {"base": str(tiny_model_folder)}
    settings["model"]["rollout"] = {"budgets": ["10%", "20%"], "group_size": 2}
    settings["model"]["prompt"] = {"close_tag": "H", "chat": "never"}
    base.write_text(yaml.safe_dump(settings))
    command = [sys.executable, str(STUDY / "study.py"), "--base", str(base), "--output", str(tmp_path / "out")]
    command += ["--rounds", "2", "--every", "2", "--seeds", "0", "--arms", "plain", "repor", "--validation-size", "2"]
    subprocess.run(command, check=True, timeout=500)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "plain-0" in table
    assert "repor-0" in table
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000
    before = (tmp_path / "out" / "plain-0" / "checkpoints" / "results.json").stat().st_mtime_ns
    subprocess.run(command, check=True, timeout=200)
    assert (tmp_path / "out" / "plain-0" / "checkpoints" / "results.json").stat().st_mtime_ns == before
    results = json.loads((tmp_path / "out" / "repor-0" / "checkpoints" / "results.json").read_text())
    assert results["rounds"]["before"] == 0
