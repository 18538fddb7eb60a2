"""Predictions are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from squish_pl.budget import Budget
from squish_pl.callbacks.predictions import PredictionWriter
from squish_pl.errors import DataError
from squish_pl.types import Document, DocumentBatch, Finish, Prompt, Rollouts

NAMED, UNNAMED = Document("a" * 50, "hash-1", "https://a.test", "cnn-1"), Document("b" * 50, "hash-2")


class Writes(LightningModule):
    """Summarises every document as "short", and then does what it is told."""

    tokenizer = None

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.then = then

    def predict_step(self, batch: DocumentBatch, batch_idx: int) -> list[Rollouts]:
        if batch_idx == 1:
            self.then()
        empty = torch.zeros(1, 1)
        return [
            Rollouts(Prompt(document, Budget.parse("10%"), "", ()), empty.long(), empty > 0, empty, empty,
                     torch.tensor([int(Finish.CLOSED)]), ["short"])
            for document in batch.documents
        ]  # fmt: skip


def predict(path: Path, module: Writes) -> PredictionWriter:
    writer = PredictionWriter(str(path))
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[writer], default_root_dir=path.parent,
    )  # fmt: skip
    documents: Any = [NAMED, UNNAMED]
    trainer.predict(module, DataLoader(documents, batch_size=1, collate_fn=DocumentBatch), return_predictions=False)
    return writer


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_line_for_each_document_under_its_own_name(tmp_path: Path) -> None:
    writer = predict(tmp_path / "new" / "out.jsonl", Writes())
    lines = [json.loads(line) for line in (tmp_path / "new" / "out.jsonl").read_text().splitlines()]
    rest = {"budget": "10%", "limit": 5, "summary": "short", "finish": "closed"}
    assert lines == [
        {"id": "cnn-1", "url": "https://a.test", **rest},
        {"id": "hash-2", "url": "", **rest},
    ]
    assert writer.count == 2


@pytest.mark.parametrize(
    ("error", "seen_as"),
    [
        (RuntimeError("broken"), RuntimeError),
        (OSError(28, "No space left on device"), OSError),
        (KeyboardInterrupt(), SystemExit),  # Lightning's way out
        (DataError("bad"), DataError),
    ],
)
def test_a_prediction_that_fails_leaves_the_earlier_file(
    error: BaseException, seen_as: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("the earlier one\n")
    with pytest.raises(seen_as):
        predict(path, Writes(failing(error)))
    assert path.read_text() == "the earlier one\n"
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_failure_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        predict(tmp_path / "out.jsonl", Writes(failing(RuntimeError("broken"))))
    assert list(tmp_path.iterdir()) == []


def test_the_earlier_file_is_there_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("the earlier one\n")
    found: list[str] = []
    predict(path, Writes(lambda: found.append(path.read_text())))
    assert found == ["the earlier one\n"]
    assert len(path.read_text().splitlines()) == 2


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target.jsonl")
    predict(tmp_path / "link.jsonl", Writes())
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len((tmp_path / "target.jsonl").read_text().splitlines()) == 2


def test_what_cannot_be_written_is_told_before_anything_is_predicted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked: list[int] = []
    for path, words in ((tmp_path, "it is there and no file"), (tmp_path / "file" / "x.jsonl", "File exists")):
        with pytest.raises(DataError, match=rf"cannot write .*{words}.*set predictions\.path"):
            predict(path, Writes(lambda: asked.append(1)))
    assert asked == []


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is there and no file"):
        predict(tmp_path / "pipe", Writes())
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
