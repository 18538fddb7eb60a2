"""A resumed run that is judged otherwise: its best is chosen by one measure, and the report lays like beside like."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from cli_tools import run_cli, tiny_arguments

from squish_pl.callbacks.adapter_checkpoint import best_of, monitored_value
from squish_pl.cli.main import main
from squish_pl.policy.adapter import read_training_file

BUDGETS = ["10%", "20 tokens"]
BEFORE = 6  #: rounds of the first run, validated after each two


def figures(ten: float, twenty: float, **more: float) -> dict[str, float]:
    return {"val/squish@10%": ten, "val/squish@20 tokens": twenty, "val/squish": (ten + twenty) / 2} | more


def test_the_best_by_hand() -> None:
    validations = {
        0: figures(9.0, 9.0),  # before training
        2: figures(0.2, 0.6),
        4: figures(0.5, 0.1),
        6: figures(0.5, 0.3),
        8: {"val/squish@10%": 0.7, "val/squish": 0.7},  # of a time with other budgets
    }
    assert best_of(validations, "val/squish", "max", BUDGETS) == (2, 0.4)
    assert best_of(validations, "val/squish", "min", BUDGETS) == (4, 0.3)
    assert best_of(validations, "val/squish@20 tokens", "max", BUDGETS) == (2, 0.6)
    assert best_of(validations, "val/squish@10%", "max", BUDGETS) == (8, 0.7)
    assert best_of(validations, "val/squish", "max", ["10%"]) == (8, 0.7)
    assert best_of(validations, "val/squish", "min", ["20 tokens"]) == (4, 0.1)
    assert best_of(validations, "val/squish", "max", ["40%"]) == (None, None)
    assert best_of(validations, "val/parsed", "max", BUDGETS) == (None, None)
    assert best_of({0: validations[0]}, "val/squish", "max", BUDGETS) == (None, None)
    first = {round_: validations[round_] for round_ in (4, 6)}
    assert best_of(first, "val/squish@10%", "max", BUDGETS) == (4, 0.5)  # the first among equals


def test_what_is_no_number_is_never_the_best() -> None:
    validations = {2: figures(math.nan, 0.1), 4: figures(0.2, 0.1), 6: figures(math.nan, math.nan)}
    for mode in ("max", "min"):
        assert best_of(validations, "val/squish@10%", mode, BUDGETS) == (4, 0.2)
    assert best_of({6: validations[6]}, "val/squish", "max", BUDGETS) == (None, None)


def test_a_share_of_all_budgets_has_no_value_under_others() -> None:
    found = figures(0.2, 0.6) | {"val/parsed": 0.5}
    assert monitored_value(found, "val/parsed", ["20 tokens", "10%"]) == 0.5
    assert monitored_value(found, "val/parsed", ["10%"]) is None
    assert monitored_value(found, "val/squish", ["10%", "40%"]) is None
    assert monitored_value(found, "val/squish@10%", ["40%"]) == 0.2


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, tiny_model_folder) -> Path:
    folder = tmp_path_factory.mktemp("first")
    assert main(["fit", *tiny_arguments(tiny_model_folder, folder, BEFORE)]) == 0
    return folder


class Resumed:
    """A copy of the first run, its past validations rewritten, gone on with for two rounds."""

    def __init__(
        self, first: Path, folder: Path, validations: dict[int, dict[str, float]], best: int, old: bool
    ) -> None:
        shutil.copytree(first, folder)
        self.folder, self.run = folder, folder / "run"
        saved = torch.load(self.run / "last.ckpt", weights_only=True)
        saved["squish"]["validations"] = validations
        state = self.state(saved)
        state["best"], state["best_round"] = validations[best]["val/squish"], best
        if old:
            del state["judged"]
        torch.save(saved, self.run / "last.ckpt")
        told = (self.run / "best" / "squish.json").read_text()
        was = read_training_file(self.run / "best")["round"]
        (self.run / "best" / "squish.json").write_text(told.replace(f'"round": {was}', f'"round": {best}'))

    def state(self, saved: dict) -> dict:
        return next(state for name, state in saved["callbacks"].items() if "AdapterCheckpoint" in name)

    def go_on(self, model: Path, capsys, *more: str) -> str:
        arguments = [*tiny_arguments(model, self.folder, BEFORE + 2), "--ckpt_path=last", *more]
        code, out, err = run_cli(["fit", *arguments], capsys)
        assert code == 0, err
        return out

    def best(self) -> tuple[int, float, int]:
        """Round and figure that the checkpoint names, and the round of the folder."""
        state = self.state(torch.load(self.run / "last.ckpt", weights_only=True))
        return state["best_round"], state["best"], read_training_file(self.run / "best")["round"]

    def newest(self, key: str) -> float:
        return torch.load(self.run / "last.ckpt", weights_only=True)["squish"]["validations"][BEFORE + 2][key]


def past(**of: tuple[float, float]) -> dict[int, dict[str, float]]:
    """Squish and novel means of rounds 2, 4 and 6, the same under both budgets."""
    found = {}
    for name, (squish, novel) in of.items():
        keys = {"squish": squish, "novel": novel, "lead": 0.1, "lead_novel": 0.1}
        found[int(name[1:])] = {f"val/{k}{end}": v for k, v in keys.items() for end in ("", "@10%", "@20 tokens")} | {
            "val/parsed": 1.0,
            "val/within_budget": 1.0,
        }
    return found


HIGH = {"r2": (50.0, -60.0), "r4": (70.0, -70.0), "r6": (60.0, -50.0)}
SAME = {"r2": (50.0, 60.0), "r4": (70.0, 90.0), "r6": (60.0, 50.0)}
OTHER = {"r2": (50.0, 95.0), "r4": (70.0, 90.0), "r6": (60.0, 50.0)}
LOW = {"r2": (-50.0, 0.0), "r4": (-40.0, 0.0), "r6": (-90.0, 0.0)}


def messages(caplog) -> list[str]:
    return [r.message for r in caplog.records if "best adapter" in r.message]


@pytest.mark.parametrize("old", [False, True], ids=["now", "saved before"])
@pytest.mark.parametrize(
    ("of", "more", "wanted", "said"),
    [
        # nothing has changed: round 4 stays, with what it was worth
        (HIGH, [], (4, 70.0), None),
        # round 4 is the best by the other figure as well
        (SAME, ["--checkpoint.monitor=val/novel"], (4, 90.0), "checkpoint.monitor {}: {} so far is that of round 4"),
        # round 2 was, whose adapter is gone: that of the checkpoint, round 6, is the first again
        (OTHER, ["--checkpoint.monitor=val/novel"], (6, 50.0), "checkpoint.monitor {}: {} so far is that of round 6"),
        # round 6 was, whose adapter is the checkpoint's, until a better one comes
        (
            HIGH,
            ["--checkpoint.monitor=val/novel"],
            (8, "val/novel"),
            "checkpoint.monitor {}: {} so far is that of round 6",
        ),
        # fewer budgets: the means are taken over those
        (
            HIGH,
            ['--model.validation.budgets=["10%"]'],
            (4, 70.0),
            "model.validation.budgets {}: {} so far is that of round 4",
        ),
        # other budgets: no past figure tells
        (
            HIGH,
            ['--model.validation.budgets=["40%"]'],
            (8, "val/squish"),
            "model.validation.budgets {}: {} is chosen anew",
        ),
        # other budgets, and a figure of one that they had
        (
            SAME,
            ['--model.validation.budgets=["10%", "40%"]', "--checkpoint.monitor=val/novel@10%"],
            (4, 90.0),
            "checkpoint.monitor and model.validation.budgets {}: {} so far is that of round 4",
        ),
    ],
)
def test_the_best_after_a_change(
    of, more, wanted, said, old, first_run, tiny_model_folder, tmp_path, capsys, caplog
) -> None:
    resumed = Resumed(first_run, tmp_path / "resumed", past(**of), 4, old)
    out = resumed.go_on(tiny_model_folder, capsys, *more)
    value = resumed.newest(wanted[1]) if isinstance(wanted[1], str) else wanted[1]
    assert resumed.best() == (wanted[0], value, wanted[0])
    expected = [] if said is None else [said.format("changed since the checkpoint", "the best adapter")]
    assert messages(caplog) == expected
    if wanted[0] != 8:
        assert f"(best is round {wanted[0]}, " in out


def test_the_adapter_of_the_checkpoint_becomes_the_best(first_run, tiny_model_folder, tmp_path, capsys, caplog) -> None:
    """Round 6 is the best by the other figure; nothing better comes."""
    resumed = Resumed(
        first_run, tmp_path / "resumed", past(r2=(50.0, 60.0), r4=(70.0, 70.0), r6=(60.0, 90.0)), 4, False
    )
    last = (resumed.run / "last" / "adapter_model.safetensors").read_bytes()
    resumed.go_on(tiny_model_folder, capsys, "--checkpoint.monitor=val/novel")
    assert resumed.best() == (6, 90.0, 6)
    assert (resumed.run / "best" / "adapter_model.safetensors").read_bytes() == last


def test_less_is_better_now(first_run, tiny_model_folder, tmp_path, capsys, caplog) -> None:
    resumed = Resumed(first_run, tmp_path / "resumed", past(**LOW), 4, False)
    resumed.go_on(tiny_model_folder, capsys, "--checkpoint.mode=min")
    assert resumed.best() == (6, -90.0, 6)
    assert messages(caplog) == [
        "checkpoint.mode changed since the checkpoint: the best adapter so far is that of round 6"
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.validation.temperature", "0.5"),
        ("model.score.novel_ngram", "3"),
        ("model.rollout.max_new_tokens", "90"),
        ("model.prompt.close_tag", "I"),
        ("model.prompt.thinking", "{max_tokens: 64}"),
        ("data.validation_size", "2"),
        ("trainer.limit_val_batches", "0.9"),  # two of three
    ],
)
def test_another_measure_begins_anew(key, value, first_run, tiny_model_folder, tmp_path, capsys, caplog) -> None:
    resumed = Resumed(first_run, tmp_path / "resumed", past(**HIGH), 4, False)
    resumed.go_on(tiny_model_folder, capsys, f"--{key}={value}", "--data.validation_batch_size=1")
    assert resumed.best() == (8, resumed.newest("val/squish"), 8)
    (said,) = messages(caplog)
    section = next((name for name in ("model.score", "model.prompt") if key.startswith(name)), key)
    assert said.startswith(f"{section} changed since the checkpoint: ")
    assert said.endswith("the best adapter is chosen anew")


def test_a_best_that_is_not_on_disk_gives_way_to_the_checkpoints_own(
    first_run, tiny_model_folder, tmp_path, capsys, caplog
) -> None:
    resumed = Resumed(first_run, tmp_path / "resumed", past(**HIGH), 4, False)
    shutil.rmtree(resumed.run / "best")
    resumed.go_on(tiny_model_folder, capsys)
    assert resumed.best() == (6, 60.0, 6)
    assert messages(caplog) == [
        f"{resumed.run / 'best'} is not that of round 4: the best adapter so far is that of round 6"
    ]


@pytest.mark.parametrize(
    ("budgets", "columns", "shown"),
    [
        ('["10%"]', ["before", "round 8"], {"10%"}),
        ('["20 tokens", "40%"]', ["before", "round 8"], {"20 tokens"}),
        ('["40%"]', ["round 8"], {"40%"}),
    ],
)
def test_the_report_shows_what_both_have(
    budgets, columns, shown, first_run, tiny_model_folder, tmp_path, capsys
) -> None:
    shutil.copytree(first_run, tmp_path / "resumed")
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path / "resumed", BEFORE + 2), "--ckpt_path=last"]
    code, out, err = run_cli(["fit", *arguments, f"--model.validation.budgets={budgets}"], capsys)
    assert code == 0, err
    table = out[out.index("After 8 rounds") :]
    assert [
        name for name in ("before", "round 2", "round 6", "round 8") if name in table.split("adapter:")[0]
    ] == columns
    assert {name for name in ("10%", "20 tokens", "40%") if f" {name} " in table} == shown
    saved = torch.load(tmp_path / "resumed" / "run" / "last.ckpt", weights_only=True)
    assert math.isfinite(saved["squish"]["validations"][8]["val/squish"])
