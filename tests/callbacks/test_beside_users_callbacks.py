"""A user's own ModelCheckpoint and EarlyStopping beside ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_tools import run_cli, tiny_arguments
from safetensors.torch import load_file


def callback(name: str, **settings: object) -> str:
    return json.dumps({"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": settings})


def fit(model: Path, folder: Path, capsys, *more: str, rounds: int = 4) -> str:
    code, out, err = run_cli(["fit", *tiny_arguments(model, folder, rounds), *more], capsys)
    assert code == 0, err
    return out


@pytest.fixture
def with_checkpoints(tiny_model_folder, tmp_path, capsys) -> Path:
    """A run beside a ModelCheckpoint that keeps every validation's."""
    saves = callback(
        "ModelCheckpoint",
        dirpath=str(tmp_path / "mine"),
        monitor="val/novel",
        save_top_k=-1,
        filename="r{step}",
        auto_insert_metric_name=False,
        save_on_train_epoch_end=False,
    )
    fit(tiny_model_folder, tmp_path, capsys, f"--trainer.callbacks=[{saves}]")
    assert sorted(f.name for f in (tmp_path / "mine").iterdir()) == ["r2.ckpt", "r4.ckpt"]
    return tmp_path


def best_state(run: Path) -> tuple[int, float]:
    saved = torch.load(run / "last.ckpt", weights_only=True)
    (state,) = (s for name, s in saved["callbacks"].items() if "AdapterCheckpoint" in name)
    return state["best_round"], state["best"]


def test_ours_is_taken_for_ours_and_theirs_holds_the_adapter_alone(with_checkpoints: Path) -> None:
    ours = torch.load(with_checkpoints / "run" / "last.ckpt", weights_only=True)
    theirs = torch.load(with_checkpoints / "mine" / "r4.ckpt", weights_only=True)
    assert all("lora_" in name for name in theirs["state_dict"])
    assert all(torch.equal(theirs["state_dict"][name], tensor) for name, tensor in ours["state_dict"].items())
    assert theirs["squish"]["round"] == 4
    (state,) = (s for name, s in ours["callbacks"].items() if "AdapterCheckpoint" in name)
    assert state["judged"]["checkpoint.monitor"] == "val/squish"


def test_going_on_from_theirs_equals_going_on_from_ours(with_checkpoints, tiny_model_folder, capsys) -> None:
    """Theirs saves before ours has judged the validation: its round is judged when it is gone on with."""
    adapters = [with_checkpoints / "run" / name / "adapter_model.safetensors" for name in ("best", "last")]
    wanted = [load_file(file) for file in adapters]
    state = best_state(with_checkpoints / "run")
    before = {str(f.relative_to(with_checkpoints / "run")) for f in (with_checkpoints / "run").rglob("*")}
    checkpoint = f"--ckpt_path={with_checkpoints / 'mine' / 'r2.ckpt'}"
    out = fit(tiny_model_folder, with_checkpoints, capsys, checkpoint)
    kept = with_checkpoints / "run-earlier-1"
    assert f"is kept as {kept}" in out
    assert {str(f.relative_to(kept)) for f in kept.rglob("*")} == before
    assert best_state(with_checkpoints / "run") == state
    for file, tensors in zip(adapters, wanted, strict=True):
        found = load_file(file)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_their_checkpoint_can_be_looked_at(command, with_checkpoints, tiny_model_folder, capsys) -> None:
    arguments = [*tiny_arguments(tiny_model_folder, with_checkpoints), f"--predictions.path={with_checkpoints / 'o'}"]
    if command == "validate":
        arguments.pop()
    checkpoint = f"--ckpt_path={with_checkpoints / 'mine' / 'r2.ckpt'}"
    code, _, err = run_cli([command, *arguments, checkpoint], capsys)
    assert code == 0, err


@pytest.mark.parametrize("name", ["EarlyStopping", "lightning.pytorch.callbacks.EarlyStopping"])
def test_early_stopping_stops_and_ours_saves(name, tiny_model_folder, tmp_path, capsys) -> None:
    settings = {"monitor": "val/squish", "mode": "max", "patience": 0, "min_delta": 100.0}
    stops = json.dumps({"class_path": name, "init_args": settings})
    fit(tiny_model_folder, tmp_path, capsys, f"--trainer.callbacks=[{stops}]", rounds=8)
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert saved["squish"]["round"] == 4  # the first validation sets the mark, the second one misses it
    assert (tmp_path / "run" / "best").is_dir()


def test_checkpointing_cannot_be_switched_off(tiny_model_folder, tmp_path, capsys) -> None:
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path), "--trainer.enable_checkpointing=false"]
    code, _, err = run_cli(["fit", *arguments], capsys)
    assert code == 2
    assert "enable_checkpointing" in err
    assert not (tmp_path / "run").exists()
