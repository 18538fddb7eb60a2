"""One callback, several runs in one process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from squish_pl import SquishModule
from squish_pl.callbacks import AdapterCheckpoint


@pytest.fixture
def trainer() -> Any:
    return SimpleNamespace(is_global_zero=True, ckpt_path=None, fast_dev_run=False, limit_val_batches=1.0)


def test_a_new_run_knows_nothing_of_the_best_of_the_one_before(trainer: Any, tmp_path: Path) -> None:
    callback = AdapterCheckpoint(str(tmp_path / "run"))
    callback.best, callback.best_round = 0.7, 4
    (tmp_path / "run" / "best").mkdir(parents=True)
    callback.on_fit_start(trainer, SquishModule())
    callback.on_train_start(trainer, SquishModule())
    assert (callback.best, callback.best_round) == (None, None)
    assert (tmp_path / "run-earlier-1" / "best").is_dir()


@pytest.mark.parametrize("stop", [SIGTERMException(), KeyboardInterrupt()])
def test_a_run_stopped_before_it_began_leaves_the_folder_alone(
    stop: BaseException, trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = AdapterCheckpoint(str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_text("another run")
    callback.on_fit_start(trainer, SquishModule())
    callback.on_exception(trainer, SquishModule(), stop)  # such as in the validation before training
    assert [(f.name, f.read_text()) for f in (tmp_path / "run").iterdir()] == [("last.ckpt", "another run")]
    assert capsys.readouterr().out == ""
