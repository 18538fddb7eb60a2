"""What a command says at its end: nothing where there is nothing to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_tools import run_cli, tiny_arguments

from squish_pl.cli.reports import counted, print_prediction_report, shared_budgets


def fit(model: Path, folder: Path, capsys, *more: str, rounds: int = 2) -> str:
    code, out, err = run_cli(["fit", *tiny_arguments(model, folder, rounds), *more], capsys)
    assert code == 0, err
    return out


def logger(folder: Path, name: str) -> str:
    save_dir = f'"init_args": {{"save_dir": "{folder / name}"}}'
    return f'{{"class_path": "lightning.pytorch.loggers.{name}", {save_dir}}}'


def test_one_and_many() -> None:
    assert [counted(n, "round") for n in (0, 1, 2)] == ["0 rounds", "1 round", "2 rounds"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 summaries"), (1, "1 summary"), (2, "2 summaries")])
def test_how_many_summaries(count: int, text: str, capsys) -> None:
    print_prediction_report("out.jsonl", count)
    assert capsys.readouterr().out == f"{text} written to out.jsonl\n"


def test_shared_budgets_come_in_the_newest_order() -> None:
    one, two = ({f"val/squish@{name}": 0.0 for name in names} for names in (["5%", "10%", "20%"], ["20%", "40%", "5%"]))
    assert shared_budgets([one, two]) == ["20%", "5%"]
    assert shared_budgets([one]) == ["5%", "10%", "20%"]
    assert shared_budgets([one, {"val/squish@1%": 0.0}]) == []


@pytest.mark.parametrize("documents", [1, 2])
def test_one_document_has_no_interval(documents: int, tiny_model_folder, tmp_path, capsys) -> None:
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path), f"--data.validation_size={documents}"]
    code, out, _ = run_cli(["validate", *arguments], capsys)
    assert code == 0
    assert ("1 document:" in out, "2 documents:" in out) == (documents == 1, documents == 2)
    assert ("interval" in out) == (documents == 2)
    assert bool(re.search(r"\[-?\d", out[out.index(" document") :])) == (documents == 2)


def test_one_round_is_one(tiny_model_folder, tmp_path, capsys) -> None:
    out = fit(tiny_model_folder, tmp_path, capsys, "--trainer.val_check_interval=1", rounds=1)
    assert "After 1 round:" in out
    assert "1 rounds" not in out


def test_the_dashboard_is_named_where_one_is_written(tiny_model_folder, tmp_path, capsys) -> None:
    assert f"tensorboard --logdir {tmp_path / 'runs'}" in fit(tiny_model_folder, tmp_path, capsys)
    board, table = logger(tmp_path, "TensorBoardLogger"), logger(tmp_path, "CSVLogger")
    arguments = [a for a in tiny_arguments(tiny_model_folder, tmp_path) if not a.startswith("--trainer.logger")]
    for given, said in ((table, []), (f"[{table}, {board}]", ["TensorBoardLogger"]), ("false", [])):
        code, out, err = run_cli(["fit", *arguments, f"--trainer.logger={given}"], capsys)
        assert code == 0, err
        assert re.findall(r"tensorboard --logdir (.*)", out) == [str(tmp_path / name) for name in said]


def test_no_best_is_told_of_where_none_was_chosen(tiny_model_folder, tmp_path, capsys) -> None:
    out = fit(tiny_model_folder, tmp_path, capsys, "--trainer.limit_val_batches=0")
    assert f"adapter: {tmp_path / 'run' / 'last'}" in out
    assert "best adapter" not in out
    assert "(best" not in out
    assert "SQUISH" not in out
