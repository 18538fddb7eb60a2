"""Keys that have moved are named with their new places."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from squish_pl.cli.old_keys import MOVED, refuse_old_keys
from squish_pl.errors import ConfigError
from squish_pl.module import SquishModule

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def nested(key, value=1):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("key", MOVED)
def test_each_is_found_in_a_file_and_on_the_command_line(key, tmp_path):
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"model": nested(key)}))
    group, _, last = key.rpartition(".")
    ways = [["--config", str(tmp_path / "old.yaml")], [f"--model.{key}=1"], [f"--model.{key}", "1"]]
    if group:
        ways.append([f"--model.{group}={{{last}: 1}}"])
    for arguments in ways:
        with pytest.raises(ConfigError) as caught:
            refuse_old_keys(["fit", *arguments])
        assert caught.value.problems == [f"model.{key} is now model.{MOVED[key]}"]


def test_all_of_them_are_named_together(tmp_path):
    (tmp_path / "old.yaml").write_text("model: {group_size: 4, clip: {low: 0.1}, reward: {objective: squish}}")
    with pytest.raises(ConfigError) as caught:
        refuse_old_keys(["fit", "--config", str(tmp_path / "old.yaml"), "--model.budgets+=5%", "--model.group_size=3"])
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "model.budgets",
        "model.group_size",
        "model.clip.low",
        "model.reward.objective",
    ]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_have_none(path):
    refuse_old_keys(["fit", "--config", str(path)])


def test_new_places_are_there_and_old_keys_are_not():
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(SquishModule, "model")
    known = parser.get_defaults(skip_validation=True)
    assert isinstance(known, Namespace)
    for old, new in MOVED.items():
        assert f"model.{old}" not in known
        assert f"model.{new.split(',')[0].split(' ')[0]}" in known
    assert len(vars(known["model"])) <= 15
