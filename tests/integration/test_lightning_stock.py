"""Lightning's stock callbacks and loggers beside ours, through the real command line, a round each."""

import csv
import logging

import loggers_standing_in
import pytest
import yaml
from cli_tools import run_cli, tiny_arguments

CALLBACKS = {
    "EarlyStopping": "{monitor: val/squish, mode: max}",
    "ModelCheckpoint": "{dirpath: FOLDER/own, monitor: val/squish, mode: max}",
    "Timer": "{duration: '00:00:10:00'}",
    "LearningRateMonitor": "{}",
    "DeviceStatsMonitor": "{}",
    "RichProgressBar": "{}",
    "TQDMProgressBar": "{}",
    "RichModelSummary": "{}",
    "ModelSummary": "{}",
    "EMAWeightAveraging": "{}",
    "OnExceptionCheckpoint": "{dirpath: FOLDER/own}",
}


def run(model, folder, capsys, *more):
    validated = "--trainer.val_check_interval=1"  # so that there is something to watch
    return run_cli(["fit", *tiny_arguments(model, folder, rounds=1), validated, *more], capsys)


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_of_lightnings_runs_beside_ours(name, tiny_model_folder, tmp_path, capsys):
    settings = CALLBACKS[name].replace("FOLDER", str(tmp_path))
    chosen = f"--trainer.callbacks=[{{class_path: {name}, init_args: {settings}}}]"
    code, out, err = run(tiny_model_folder, tmp_path, capsys, chosen)
    assert code == 0, err
    assert "Traceback" not in out + err
    assert (tmp_path / "run" / "last.ckpt").is_file()
    (config,) = (tmp_path / "runs").rglob("config.yaml")
    saved = yaml.safe_load(config.read_text())["trainer"]["callbacks"]
    assert [callback["class_path"].rpartition(".")[2] for callback in saved] == [name]
    assert (tmp_path / "own").is_dir() == (name == "ModelCheckpoint")


def test_a_bar_of_ones_own_is_off_where_bars_are_off(tiny_model_folder, tmp_path, capsys):
    off = ["--trainer.callbacks=[RichProgressBar]", "--trainer.enable_progress_bar=false"]
    code, _, err = run(tiny_model_folder, tmp_path, capsys, *off)
    assert code == 0, err


def test_a_callback_that_cannot_work_ends_the_run_before_it_begins(tiny_model_folder, tmp_path, capsys):
    code, _, err = run(
        tiny_model_folder, tmp_path, capsys, "--trainer.callbacks=[LearningRateFinder]", "--trainer.gradient_clip_val=1"
    )
    assert code == 2
    assert "2 problems" in err
    assert "LearningRateFinder cannot work here: set model.optimizer.learning_rate" in err
    assert not (tmp_path / "run").exists()


def test_csv_beside_tensorboard(tiny_model_folder, tmp_path, capsys):
    loggers = [{"class_path": "CSVLogger"}, {"class_path": "TensorBoardLogger"}]
    for logger in loggers:
        logger["init_args"] = {"save_dir": str(tmp_path / logger["class_path"])}
    arguments = [a for a in tiny_arguments(tiny_model_folder, tmp_path, rounds=1) if "trainer.logger" not in a]
    code, _, err = run_cli(["fit", *arguments, f"--trainer.logger={loggers}"], capsys)
    assert code == 0, err
    (table,) = (tmp_path / "CSVLogger").rglob("metrics.csv")
    assert "reward/mean" in table.read_text().splitlines()[0]
    assert list((tmp_path / "TensorBoardLogger").rglob("events.out*"))


def test_csv_alone_has_figures_and_summaries(tiny_model_folder, tmp_path, capsys):
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "csv")}}
    arguments = [a for a in tiny_arguments(tiny_model_folder, tmp_path, rounds=2) if "trainer.logger" not in a]
    code, out, err = run_cli(["fit", *arguments, f"--trainer.logger={logger}"], capsys)
    assert code == 0, err
    (table,) = (tmp_path / "csv").rglob("metrics.csv")
    assert f"figures and summaries: {table.parent}" in out
    rows = list(csv.DictReader((table.parent / "summaries.csv").open(newline="", encoding="utf-8")))
    assert [row["round"] for row in rows] == ["0"] * 6 + ["2"] * 6  # three documents under two budgets
    assert list(rows[0]) == ["round", "document", "budget", "summary", "SQUISH", "novel", "opening's SQUISH"]
    figures = list(csv.DictReader(table.open(newline="")))
    assert {row["step"] for row in figures if row["val/squish"]} == {"0", "2"}


def test_loggers_like_wandbs_and_mlflows_get_tables_and_texts(tiny_model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loggers_standing_in, "TOLD", told := [])
    arguments = [a for a in tiny_arguments(tiny_model_folder, tmp_path, rounds=1) if "trainer.logger" not in a]
    chosen = "--trainer.logger=[loggers_standing_in.Tables, loggers_standing_in.Artifacts]"
    code, _, err = run_cli(["fit", *arguments, "--trainer.val_check_interval=1", chosen], capsys)
    assert code == 0, err
    tables = [rest for name, *rest in told if name == "Tables" and rest[0] == "summaries"]
    assert [step for *_, step in tables] == [0, 1]
    heads = ["document", "budget", "summary", "SQUISH", "novel", "opening's SQUISH"]
    assert all(columns == heads and len(data) == 6 and len(data[0]) == 6 for _, columns, data, _ in tables)
    artifacts = {
        file: text for name, *rest in told if name == "Artifacts" and rest[0] == "r1" for _, text, file in [rest]
    }
    assert list(artifacts) == ["about/0.md", "summaries/0.md", "summaries/1.md"]
    assert artifacts["summaries/0.md"].startswith("| document | budget | summary | SQUISH |")
    assert "parameters learn" in artifacts["about/0.md"]
    for logger in ("Tables", "Artifacts"):
        figures = [(set(rest[0]), rest[1]) for name, what, *rest in told if (name, what) == (logger, "metrics")]
        assert [step for keys, step in figures if "val/squish" in keys] == [0, 1]
        assert any("reward/mean" in keys for keys, _ in figures)


def test_a_logger_whose_package_is_missing_is_one_message(tiny_model_folder, tmp_path, capsys, monkeypatch):
    arguments = [a for a in tiny_arguments(tiny_model_folder, tmp_path, rounds=1) if "trainer.logger" not in a]
    monkeypatch.setitem(__import__("sys").modules, "neptune", None)
    code, out, err = run_cli(["fit", *arguments, "--trainer.logger=CometLogger"], capsys)
    assert code == 2
    assert "CometLogger cannot be used: " in err
    assert "Traceback" not in out + err


def test_slurm_with_two_tasks_is_one_message(tiny_model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    code, _, err = run(tiny_model_folder, tmp_path, capsys)
    assert code == 2
    assert "--ntasks-per-node=2" in err


def test_a_run_says_once_how_many_parameters_learn(tiny_model_folder, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    logging.getLogger("squish_pl").propagate = True
    code, _, _ = run(tiny_model_folder, tmp_path, capsys)
    assert code == 0
    # rank 8 on all linear projections of both layers: 8 * (inputs + outputs) each
    shapes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    learning = sum(2 * 8 * (n + m) for n, m in shapes)
    assert learning == 8192
    told = [record.getMessage() for record in caplog.records if "parameters learn" in record.getMessage()]
    assert told == ["8.19 k of 35.1 k parameters learn, on cpu"]
