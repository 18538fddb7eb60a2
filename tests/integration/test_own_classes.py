"""A user's own loss, reward and contender: a class on the import path, and no file of ours."""

import json
import re
import sys
from pathlib import Path

import pytest
from cli_tools import run_cli, tiny_arguments
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[2]

MODULE = """
import torch

from squish_pl.rl.losses import LossParts, PolicyLoss
from squish_pl.rl.rewards import Reward


class Plain(PolicyLoss):
    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, log_probs, old_log_probs, advantages, weights, entropies):
        ones = torch.ones_like(weights)
        return LossParts(-self.scale * (log_probs * advantages * weights).sum(), {"three": 3 * ones.sum()})

    def problems(self):
        return [] if self.scale > 0 else [f"scale must be above 0, but is {self.scale}"]


class Shortness(Reward):
    def __call__(self, scores, group, scorer):
        return torch.full((group.size,), 0.25) + torch.arange(group.size) * 0.5
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    folder = tmp_path / "importable"
    folder.mkdir()
    (folder / "own_training_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    yield "own_training_module"
    sys.modules.pop("own_training_module", None)


def arguments(name, scale="0.5", weight="0.1", other="Squish"):
    return [
        f"--model.loss={name}.Plain",
        f"--model.loss.scale={scale}",
        f"--model.rewards=[{{class_path: {name}.Shortness, init_args: {{weight: {weight}}}}}, {other}]",
    ]


def test_their_sums_and_components_are_on_the_dashboard(own_module, tiny_model_folder, tmp_path, capsys):
    base = tiny_arguments(tiny_model_folder, tmp_path)
    code, _, err = run_cli(["fit", *base, *arguments(own_module)], capsys)
    assert code == 0, err
    events = EventAccumulator(str(next((tmp_path / "runs").rglob("events.out*")).parent))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert "policy/clipped_low" not in tags
    # groups of four, by their places: 0.25, 0.75, 1.25, 1.75
    assert [point.value for point in events.Scalars("reward/shortness")] == [1.0, 1.0]
    assert {point.value for point in events.Scalars("policy/three")} == {3.0}
    assert "reward/squish" in tags
    card = (tmp_path / "run" / "last" / "README.md").read_text()
    assert "rewards: Shortness(weight=0.1, name=shortness) + Squish" in card
    assert "loss: Plain(scale=0.5)" in card


def test_what_is_wrong_with_them_is_told_with_everything_else(own_module, tiny_model_folder, tmp_path, capsys):
    base = tiny_arguments(tiny_model_folder, tmp_path)
    wrong = [*arguments(own_module, scale="-1", weight=".nan"), "--model.rollout.group_size=1", "--data.batch_size=0"]
    code, _, err = run_cli(["fit", *base, *wrong], capsys)
    assert code == 2
    assert "4 problems" in err
    for words in (
        "model.loss (Plain): scale must be above 0, but is -1.0",
        "model.rewards (shortness): weight must be a finite number, but is nan",
        "model.rollout.group_size",
        "data.batch_size",
    ):
        assert words in err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--model.loss=own_training_module.Plain", "--model.loss.skale=1"], ["Plain", "skale"]),
        (["--model.loss=own_training_module.Plain", "--model.loss.scale=much"], ["scale", "much"]),
        (["--model.loss=own_training_module.Nothing"], ["own_training_module.Nothing"]),
        (["--model.loss=own_training_module.Shortness"], ["own_training_module.Shortness", "PolicyLoss"]),
        (
            ["--model.rewards=[{class_path: own_training_module.Shortness, init_args: {weigth: 1}}]"],
            ["Shortness", "weigth"],
        ),
    ],
)
def test_arguments_and_types_are_checked(wrong, words, own_module, tiny_model_folder, tmp_path, capsys):
    code, out, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path), *wrong], capsys)
    assert code == 2
    assert "Traceback" not in out + err
    for word in words:
        assert word in err


def test_the_examples_of_the_documents_run(tiny_model_folder, tmp_path, capsys, monkeypatch):
    text = (ROOT / "docs" / "extending.md").read_text()
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.S):
        (tmp_path / name).write_text(code)
    names = ("my_losses", "my_controls", "my_rewards", "my_measures", "my_thrift", "my_contenders")
    assert {path.stem for path in tmp_path.glob("*.py")} == set(names)
    monkeypatch.syspath_prepend(tmp_path)
    own = ["--model.loss=my_losses.Reinforce", "--model.loss.scale=0.5"]
    own += ["--model.entropy={class_path: my_controls.Damped, init_args: {target: 2.0}}"]
    own += ["--model.rewards=[Squish, {class_path: my_rewards.Brevity, init_args: {weight: 0.05}}]"]
    code, _, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path, rounds=1), *own], capsys)
    assert code == 0, err
    (measured,) = re.findall(r"```yaml\n(model:\n  score:.*?)```", text, re.S)
    (tmp_path / "measured.yaml").write_text(measured)
    base = tiny_arguments(tiny_model_folder, tmp_path / "measured", rounds=1)
    code, out, err = run_cli(["fit", *base, "--config", str(tmp_path / "measured.yaml")], capsys)
    assert code == 0, err
    assert "The best adapter is picked by val/helped_0.5" in out
    (tmp_path / "docs.jsonl").write_text(
        '{"text": "A ferry came.\\nIt carried a goat named Ada, and a crate of cheese."}\n'
    )
    references = f"[{{base: {tiny_model_folder}}}]"
    compare = ["compare", "--documents", str(tmp_path / "docs.jsonl"), f"--references={references}", "--logs=null"]
    compare += ["--contenders=[my_contenders.Headline, Opening]", "--budgets=[60%]", f"--store={tmp_path / 's.sqlite'}"]
    compare += ["--score.measures=[{class_path: my_thrift.Thrift, init_args: {least: 3}}]", "--rank_by=thrift 3"]
    code, out, err = run_cli([*compare, f"--output={tmp_path / 'out'}"], capsys)
    assert code == 0, err
    assert "ranked by thrift 3" in out
    first, second = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert {first["contender"], second["contender"]} == {"headline", "opening"}
    assert first["thrift 3"] > second["thrift 3"]
    for line in map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines()):
        tokens = len(line["summary"].encode())  # the tiny model's are bytes
        assert line["thrift 3"] == pytest.approx(line["squish"] * line["information"] / tokens)
    code, _, err = run_cli(
        [*compare, "--score.measures=[{class_path: my_thrift.Thrift, init_args: {least: 0}}]"], capsys
    )
    assert code == 2
    assert "thrift 0: least must be at least 1, but is 0" in err
    for name in names:
        sys.modules.pop(name)
