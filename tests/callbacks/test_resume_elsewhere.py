"""Runs that go on from a checkpoint, wherever it lies: no other run is written over, and the best is one on disk."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from cli_tools import run_cli, tiny_arguments
from safetensors.torch import load_file

from squish_pl.callbacks.run_folder import take_over
from squish_pl.cli.main import main

Files = dict[str, bytes]


def fit(model: Path, folder: Path, capsys, *more: str, rounds: int = 2) -> str:
    """A run with a validation after each two rounds; what it printed."""
    code, out, err = run_cli(["fit", *tiny_arguments(model, folder, rounds), *more], capsys)
    assert code == 0, err
    return out


def files(folder: Path) -> Files:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def state(run: Path) -> dict:
    (found,) = (
        s for key, s in torch.load(run / "last.ckpt", weights_only=True)["callbacks"].items() if "Adapter" in key
    )
    return found


def round_of(folder: Path) -> int:
    return json.loads((folder / "squish.json").read_text())["round"]


def check_whole(run: Path, rounds: int) -> None:
    """The folder holds one run, up to a round, and the best that it names is the one on disk."""
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    assert checkpoint["squish"]["round"] == rounds == round_of(run / "last")
    assert state(run)["best_round"] == round_of(run / "best")
    validations = checkpoint["squish"]["validations"]
    assert state(run)["best"] == validations[state(run)["best_round"]]["val/squish"]
    assert not [name for name in os.listdir(run) if name.startswith(".")]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory, tiny_model_folder):
    """Finished runs of two rounds: one, and another with a seed of its own."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("one", 0), ("other", 5)):
        arguments = [*tiny_arguments(tiny_model_folder, folder / name), f"--seed_everything={seed}"]
        assert main(["fit", *arguments]) == 0
    assert files(folder / "one" / "run") != files(folder / "other" / "run")
    return folder


@pytest.fixture
def runs(two_runs, tmp_path) -> Path:
    """The same, to be gone on with."""
    shutil.copytree(two_runs, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def gone_on(two_runs, tiny_model_folder, tmp_path_factory) -> dict[str, bytes]:
    """The files of run `one` gone on with for two rounds more, in its own folder."""
    folder = tmp_path_factory.mktemp("gone-on")
    shutil.copytree(two_runs / "one", folder / "one")
    assert main(["fit", *tiny_arguments(tiny_model_folder, folder / "one", 4), "--ckpt_path=last"]) == 0
    check_whole(folder / "one" / "run", 4)
    return files(folder / "one" / "run")


def weights(of: Files) -> dict[str, bytes]:
    return {name: content for name, content in of.items() if name.endswith(".safetensors")}


def test_going_on_in_the_folder_of_another_run_sets_that_aside(runs, gone_on, tiny_model_folder, capsys) -> None:
    before, source = files(runs / "other" / "run"), files(runs / "one" / "run")
    checkpoint = f"--ckpt_path={runs / 'one' / 'run' / 'last.ckpt'}"
    out = fit(tiny_model_folder, runs / "other", capsys, checkpoint, rounds=4)
    kept = runs / "other" / "run-earlier-1"
    assert f"an earlier run in {runs / 'other' / 'run'} is kept as {kept}" in out
    assert files(kept) == before
    assert files(runs / "one" / "run") == source
    check_whole(runs / "other" / "run", 4)
    assert weights(files(runs / "other" / "run")) == weights(gone_on)


def test_going_on_in_an_empty_folder_takes_the_adapters_along(
    runs, gone_on, tiny_model_folder, tmp_path, capsys
) -> None:
    checkpoint = runs / "one" / "run" / "last.ckpt"
    source = files(runs / "one" / "run")
    out = fit(tiny_model_folder, tmp_path / "new", capsys, f"--ckpt_path={checkpoint}", rounds=4)
    assert "is kept as" not in out
    assert files(runs / "one" / "run") == source
    check_whole(tmp_path / "new" / "run", 4)
    assert weights(files(tmp_path / "new" / "run")) == weights(gone_on)


def test_what_is_taken_along_is_there_before_anything_is_saved(runs, tmp_path) -> None:
    run, new = runs / "one" / "run", tmp_path / "new"
    before = files(run)
    kept = {name: data for name, data in before.items() if name != "results.json"}  # written anew when the run goes on
    for _ in range(2):  # the second time it is there
        assert take_over(new, run / "last.ckpt", {"best": 2, "last": 2}) is None
        assert files(run) == before
        assert files(new) == kept
    assert take_over(new, runs / "other" / "run" / "last.ckpt", {"best": None, "last": 1}) == tmp_path / "new-earlier-1"
    assert files(tmp_path / "new-earlier-1") == kept
    assert files(new) == {"last.ckpt": files(runs / "other" / "run")["last.ckpt"]}


def test_the_same_command_twice_keeps_what_the_first_made(runs, gone_on, tiny_model_folder, tmp_path, capsys) -> None:
    command = f"--ckpt_path={runs / 'one' / 'run' / 'last.ckpt'}"
    fit(tiny_model_folder, tmp_path / "new", capsys, command, rounds=4)
    out = fit(tiny_model_folder, tmp_path / "new", capsys, command, rounds=4)
    assert f"is kept as {tmp_path / 'new' / 'run-earlier-1'}" in out
    for name in ("run", "run-earlier-1"):
        check_whole(tmp_path / "new" / name, 4)
        assert weights(files(tmp_path / "new" / name)) == weights(gone_on)


def test_without_a_round_to_go_nothing_is_touched(runs, tiny_model_folder, tmp_path, capsys) -> None:
    before, source = files(runs / "other" / "run"), files(runs / "one" / "run")
    checkpoint = f"--ckpt_path={runs / 'one' / 'run' / 'last.ckpt'}"
    out = fit(tiny_model_folder, runs / "other", capsys, checkpoint, "--seed_everything=0")
    assert "is kept as" not in out
    assert (files(runs / "other" / "run"), files(runs / "one" / "run")) == (before, source)
    assert "adapter:" not in fit(tiny_model_folder, tmp_path / "new", capsys, checkpoint)


def test_the_validation_after_such_a_run_writes_over_no_other_one(runs, tiny_model_folder, tmp_path, capsys) -> None:
    fit(tiny_model_folder, tmp_path / "three", capsys, "--trainer.val_check_interval=5", rounds=3)
    saved = torch.load(tmp_path / "three" / "run" / "last.ckpt", weights_only=True)
    saved["squish"]["validations"] = {}  # stopped before its last validation
    torch.save(saved, tmp_path / "three" / "run" / "last.ckpt")
    before = files(runs / "other" / "run")
    checkpoint = f"--ckpt_path={tmp_path / 'three' / 'run' / 'last.ckpt'}"
    fit(tiny_model_folder, runs / "other", capsys, checkpoint, rounds=3)
    assert files(runs / "other" / "run-earlier-1") == before
    check_whole(runs / "other" / "run", 3)


@pytest.mark.parametrize("way", ["symlink", "dots", "relative", "file link", "copy", "copy elsewhere", "renamed"])
def test_the_same_run_by_another_name_is_gone_on_with(
    way, runs, gone_on, tiny_model_folder, tmp_path, capsys, monkeypatch
) -> None:
    run = runs / "one" / "run"
    checkpoint, more = run / "last.ckpt", []
    if way == "symlink":
        (tmp_path / "link").symlink_to(run)
        more = [f"--checkpoint.dirpath={tmp_path / 'link'}"]
    if way == "dots":
        checkpoint = run / ".." / "run" / "last.ckpt"
    if way == "relative":
        checkpoint = Path(os.path.relpath(checkpoint))
    if way == "file link":
        checkpoint = tmp_path / "some.ckpt"
        checkpoint.symlink_to(run / "last.ckpt")
    if way == "copy":
        checkpoint = run / "copy.ckpt"
        shutil.copy(run / "last.ckpt", checkpoint)
    if way == "copy elsewhere":
        checkpoint = tmp_path / "copy.ckpt"
        shutil.copy(run / "last.ckpt", checkpoint)
    if way == "renamed":
        checkpoint = run / "mine.ckpt"
        (run / "last.ckpt").rename(checkpoint)
    out = fit(tiny_model_folder, runs / "one", capsys, f"--ckpt_path={checkpoint}", *more, rounds=4)
    assert "is kept as" not in out
    assert not list((runs / "one").glob("run-*"))
    check_whole(run, 4)
    assert weights(files(run)) == weights(gone_on)


@pytest.mark.parametrize("linked", [False, True])
def test_an_earlier_checkpoint_inside_the_folder_goes_on_with_what_is_set_aside(
    linked, runs, gone_on, tiny_model_folder, tmp_path, capsys
) -> None:
    """The folder set aside is the very one gone on with."""
    run = runs / "one" / "run"
    shutil.copy(run / "last.ckpt", run / "round-2.ckpt")
    fit(tiny_model_folder, runs / "one", capsys, "--ckpt_path=last", "--model.optimizer.learning_rate=0.5", rounds=6)
    before = files(run)
    if linked:
        run.rename(tmp_path / "real")
        run.symlink_to(tmp_path / "real")
    checkpoint = f"--ckpt_path={run / 'round-2.ckpt'}"
    fit(tiny_model_folder, runs / "one", capsys, checkpoint, "--model.optimizer.learning_rate=0.01", rounds=4)
    assert files(runs / "one" / "run-earlier-1") == before
    check_whole(run, 4)
    assert files(run)["last/adapter_model.safetensors"] == gone_on["last/adapter_model.safetensors"]
    # and from the folder set aside
    kept = runs / "one" / "run-earlier-1"
    fit(tiny_model_folder, runs / "one", capsys, f"--ckpt_path={kept / 'last.ckpt'}", rounds=8)
    assert files(kept) == before
    check_whole(runs / "one" / "run-earlier-2", 4)
    check_whole(run, 8)


def test_a_checkpoint_alone_brings_its_own_adapter_as_the_best(
    runs, tiny_model_folder, tmp_path, capsys, caplog
) -> None:
    saved = torch.load(runs / "one" / "run" / "last.ckpt", weights_only=True)
    saved["squish"]["validations"][2]["val/squish"] = 50.0  # the best ever
    for key, kept in saved["callbacks"].items():
        if "AdapterCheckpoint" in key:
            kept["best"] = 50.0
    torch.save(saved, tmp_path / "alone.ckpt")
    fit(tiny_model_folder, tmp_path / "new", capsys, f"--ckpt_path={tmp_path / 'alone.ckpt'}", rounds=4)
    run = tmp_path / "new" / "run"
    assert [r.message for r in caplog.records if "best adapter" in r.message] == [
        f"{run / 'best'} is not that of round 2: the best adapter so far is that of round 2"
    ]
    check_whole(run, 4)
    assert round_of(run / "best") == 2
    brought = load_file(run / "best" / "adapter_model.safetensors")
    assert brought.keys() == saved["state_dict"].keys()
    assert all(torch.equal(brought[name], tensor) for name, tensor in saved["state_dict"].items())


def test_adapters_of_other_rounds_beside_the_checkpoint_stay_there(runs, tiny_model_folder, tmp_path, capsys) -> None:
    run = runs / "one" / "run"
    for name in ("best", "last"):
        told = json.loads((run / name / "squish.json").read_text())
        (run / name / "squish.json").write_text(json.dumps(told | {"round": 77}))
    fit(tiny_model_folder, tmp_path / "new", capsys, f"--ckpt_path={run / 'last.ckpt'}", rounds=4)
    check_whole(tmp_path / "new" / "run", 4)
    assert round_of(run / "best") == 77


def test_a_new_run_and_a_trial_do_what_they_did(runs, tiny_model_folder, capsys) -> None:
    checkpoint = f"--ckpt_path={runs / 'other' / 'run' / 'last.ckpt'}"
    shutil.move(runs / "one" / "run", runs / "swap")  # the other run goes on, in the folder of this one
    shutil.move(runs / "other" / "run", runs / "one" / "run")
    shutil.move(runs / "swap", runs / "other" / "run")
    before = files(runs / "one" / "run")
    fit(tiny_model_folder, runs / "one", capsys, "--trainer.fast_dev_run=1")
    fit(tiny_model_folder, runs / "one", capsys, "--trainer.fast_dev_run=1", checkpoint)
    assert files(runs / "one" / "run") == before
    for command in ("validate", "predict"):
        arguments = [*tiny_arguments(tiny_model_folder, runs / "one"), checkpoint]
        arguments += [f"--predictions.path={runs / 'out.jsonl'}"] if command == "predict" else []
        assert run_cli([command, *arguments], capsys)[0] == 0
    assert files(runs / "one" / "run") == before
    fit(tiny_model_folder, runs / "one", capsys)
    assert files(runs / "one" / "run-earlier-1") == before
    check_whole(runs / "one" / "run", 2)
