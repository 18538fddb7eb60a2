"""Records that cannot be read are passed over and counted, and a resumed run counts the same."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from squish_pl.data import DocumentDataModule
from squish_pl.data.filters import read_documents
from squish_pl.data.skipped import Skipped
from squish_pl.data.sources import open_source
from squish_pl.data.stream import DocumentStream, Progress, StreamLoader
from squish_pl.errors import ConfigError, DataError
from squish_pl.types import DocumentBatch

BAD_LINES = [
    b'{"text": null}',
    b'{"text": 7}',
    b'{"text": ["a", "b"]}',
    b'{"body": "no text"}',
    b"plain words",
    b'{"text": "\xff\xfe"}',
    b'{"text": "cut',
    b'"only a string"',
    b"[" * 100_000,
]


def line(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


def write_lines(path: Path, lines: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture
def rough(tmp_path: Path) -> tuple[str, list[str]]:
    """A folder of six files with all kinds of damage, and the 40 texts that can be read; 15 records cannot."""
    texts = [f"text number {number}" for number in range(40)]
    folder = tmp_path / "rough"
    write_lines(folder / "a.jsonl", [BAD_LINES[0], *map(line, texts[:3]), *BAD_LINES, *map(line, texts[3:10])])
    (folder / "b.jsonl").touch()  # 1: empty
    long = b"\n".join(map(line, texts[10:20])) + b"\n"
    whole = gzip.compress(long) + gzip.compress(line("lost") * 1000)
    (folder / "c.json.gz").write_bytes(whole[:-30])  # 1: the second member is cut off
    pq.write_table(pa.table({"text": [*texts[20:25], None, *texts[25:30]]}), folder / "d.parquet")  # 1
    (folder / "e.parquet").write_text("no parquet")  # 1
    write_lines(folder / "f.jsonl", [*map(line, texts[30:]), BAD_LINES[0]])  # 1, at the very end
    return str(folder), texts


def test_every_kind_of_damage_is_passed_over_and_counted(rough: tuple[str, list[str]]) -> None:
    spec, texts = rough
    skipped = Skipped("rough", max_share=1.0)
    assert [document.text for document in read_documents(open_source(spec), skipped)] == texts
    assert (skipped.read, skipped.bad, skipped.total) == (55, 15, 15)
    assert skipped.first == f"line 1 of {spec}/a.jsonl: expected a string in the field `text`, but got NoneType"
    assert skipped.summary() == (f"rough: skipped 15 of 55 records, which cannot be read; the first: {skipped.first}")


@pytest.mark.parametrize("bad", BAD_LINES)
def test_each_bad_line_is_named(bad: bytes, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [line("one"), bad, line("two")])
    skipped = Skipped("a", max_share=1.0)
    assert [document.text for document in read_documents(open_source(str(path)), skipped)] == ["one", "two"]
    assert skipped.first.startswith(f"line 2 of {path}: expected a ") or "no field `text`" in skipped.first
    assert len(skipped.first) < 300 + len(str(path))
    assert (skipped.read, skipped.bad) == (3, 1)


def test_a_file_that_went_missing_after_the_start_is_one_record(tmp_path: Path) -> None:
    for name in "abc":
        write_lines(tmp_path / f"{name}.jsonl", [line(name)])
    source = open_source(str(tmp_path))
    (tmp_path / "b.jsonl").unlink()
    skipped = Skipped("abc", max_share=1.0)
    assert [document.text for document in read_documents(source, skipped)] == ["a", "c"]
    assert (skipped.read, skipped.bad) == (3, 1)
    assert "b.jsonl cannot be read" in skipped.first


def test_who_does_not_count_wants_whole_files_but_may_find_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    path = write_lines(tmp_path / "b.jsonl", [line("one"), b'{"text": null}'])
    documents = read_documents(open_source(str(tmp_path)))
    assert next(documents).text == "one"
    with pytest.raises(DataError, match=re.escape(f"line 2 of {path}: expected a string")):
        next(documents)


def test_a_hub_record_without_a_text_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = datasets.Dataset.from_dict({"text": ["one", None, "two"], "id": [1, 2, 3]}).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: stream)
    skipped = Skipped("hub", max_share=1.0)
    assert [document.text for document in read_documents(open_source("hub://a/b"), skipped)] == ["one", "two"]
    assert [document.text for document in read_documents(open_source("hub://a/b"))] == ["one", "", "two"]  # a blank one
    assert skipped.first == "a record (id 2): expected a string in the field `text`, but got NoneType"


def test_nothing_readable_at_the_very_start_is_an_error_at_once(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a.jsonl", [b'{"body": "x"}', b"words"])
    write_lines(tmp_path / "b.jsonl", [line("fine")])
    skipped = Skipped("ab", max_share=1.0)
    with pytest.raises(DataError, match=re.escape(f"line 1 of {first} has no field `text`")):
        list(read_documents(open_source(str(tmp_path)), skipped))
    first.rename(tmp_path / "z.jsonl")  # now it is the last
    assert [d.text for d in read_documents(open_source(str(tmp_path)), Skipped("ab", max_share=1.0))] == ["fine"]


@pytest.mark.parametrize(("good", "bad", "share", "ends"), [(99, 1, 0.01, False), (98, 2, 0.01, True),
                                                            (97, 2, 0.01, False), (98, 2, 0.02, False),
                                                            (1, 98, 0.01, False), (99, 1, 0.0, True)])  # fmt: skip
def test_more_than_the_allowed_share_ends_it_once_there_are_enough(
    good: int, bad: int, share: float, ends: bool, tmp_path: Path
) -> None:
    lines = [line("first"), *[b"bad"] * bad, *[line(f"text {number}") for number in range(good - 1)]]
    path = write_lines(tmp_path / "a.jsonl", lines)
    documents = read_documents(open_source(str(path)), Skipped("my texts", share))
    if not ends:
        assert len(list(documents)) == good
        return
    with pytest.raises(DataError) as caught:
        list(documents)
    message = str(caught.value)
    assert message.startswith(
        f"{bad} of 100 records of my texts cannot be read, and data.max_bad_share allows {share:g}"
    )
    assert f"The first: line 2 of {path}: expected" in message


def test_epochs_are_judged_each_for_itself(tmp_path: Path) -> None:
    """Two bad records of 60 are not judged, however often they come."""
    path = write_lines(tmp_path / "a.jsonl", [*[line(f"text {number}") for number in range(58)], b"bad", b"bad"])
    stream = DocumentStream(open_source(str(path)), batch_size=29, shuffle_window=10)
    batches = list(islice(iter(StreamLoader(stream)), 6))
    # the bad ones at the end of an epoch are read with its last window, the sixth
    assert [batch.position["0"]["skipped"] for batch in batches] == [0, 2, 2, 4, 4, 6]


def stored(progress: Progress, folder: Path) -> Progress:
    torch.save(vars(progress), folder / "progress.pt")
    return Progress(**torch.load(folder / "progress.pt", weights_only=True))


def seen(batches: list[DocumentBatch]) -> list[Any]:
    return [([document.text for document in batch.documents], batch.position) for batch in batches]


@pytest.mark.parametrize("window", [1, 4, 256])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_uninterrupted(workers: int, window: int, rough: tuple[str, list[str]], tmp_path: Path) -> None:
    def take(count: int, progress: Progress | None = None) -> list[DocumentBatch]:
        stream = DocumentStream(
            open_source(rough[0]), batch_size=3, shuffle_window=window, progress=progress, max_bad_share=1.0
        )
        return list(islice(iter(StreamLoader(stream, workers)), count))

    whole = take(40)  # 120 documents: three epochs
    assert sorted(text for batch in whole for text in seen([batch])[0][0]) == sorted(rough[1] * 3) or workers
    totals = [sum(position["skipped"] for position in batch.position.values()) for batch in whole]
    assert max(totals) >= 15
    for stop in range(1, 40) if not workers else (1, 6, 13, 25):
        progress = Progress()
        for batch in whole[:stop]:
            progress.advance(batch)
        assert seen(take(40 - stop, stored(progress, tmp_path))) == seen(whole[stop:])


class Counter(LightningModule):
    """Notes documents and the figure of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[tuple[list[str], float]] = []

    def training_step(self, batch: DocumentBatch, batch_idx: int) -> torch.Tensor:
        figures = self.trainer.datamodule.figures
        self.trained.append(([document.id for document in batch.documents], figures["data/skipped"]))
        return self.weight**2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[[int], Trainer]:
    def make(steps: int) -> Trainer:
        return Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, limit_val_batches=0, default_root_dir=tmp_path, max_steps=steps,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("workers", [0, 2])
def test_the_figure_survives_a_resumed_fit(
    workers: int, rough: tuple[str, list[str]], tmp_path: Path, trainer: Callable[[int], Trainer]
) -> None:
    def data() -> DocumentDataModule:
        return DocumentDataModule(
            rough[0], batch_size=4, shuffle_window=5, num_workers=workers, max_bad_share=1.0, validation_size=2
        )

    whole, first, second = Counter(), Counter(), Counter()
    trainer(24).fit(whole, data())
    figures = [figure for _, figure in whole.trained]
    assert figures == sorted(figures)
    assert figures[-1] >= 30  # 38 documents and 15 bad records an epoch, read two and a half times
    started = trainer(7)
    started.fit(first, data())
    started.save_checkpoint(tmp_path / "run.ckpt")
    trainer(24).fit(second, data(), ckpt_path=tmp_path / "run.ckpt")
    assert first.trained + second.trained == whole.trained


def test_the_log_tells_the_first_and_then_now_and_again(
    rough: tuple[str, list[str]], trainer: Callable[[int], Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    data = DocumentDataModule(rough[0], batch_size=1, shuffle_window=1, max_bad_share=1.0, validation_size=1)
    with caplog.at_level(logging.WARNING, "squish_pl"):
        trainer(60).fit(Counter(), data)
    lines = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    place = f"such as line 1 of {rough[0]}/a.jsonl: expected a string in the field `text`, but got NoneType"
    assert lines == [
        f"{rough[0]}: 1 unreadable records skipped so far, {place}",
        f"{rough[0]}: 10 unreadable records skipped so far, {place}",
    ]


def test_prediction_says_how_many_it_leaves_out(rough: tuple[str, list[str]], caplog: pytest.LogCaptureFixture) -> None:
    data = DocumentDataModule(rough[0], max_bad_share=1.0)
    with caplog.at_level(logging.WARNING, "squish_pl"):
        batches = list(data.predict_dataloader())
    assert [document.text for batch in batches for document in batch.documents] == rough[1]
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{rough[0]}: skipped 15 of 55 records, which cannot be read; the first: line 1 of ")


def test_validation_says_it_too(rough: tuple[str, list[str]], caplog: pytest.LogCaptureFixture) -> None:
    data = DocumentDataModule("samples", rough[0], max_bad_share=1.0, validation_size=5)
    with caplog.at_level(logging.WARNING, "squish_pl"):
        [batch] = data.val_dataloader()
    assert [document.text for document in batch.documents] == rough[1][:5]
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{rough[0]}: skipped 10 of 15 records, which cannot be read; the first: line 1 of ")


def test_prediction_of_nothing_readable_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(DataError, match=re.escape(f"nothing of {tmp_path} can be read: {tmp_path}/a.jsonl is empty")):
        DocumentDataModule(str(tmp_path)).predict_dataloader()


def test_the_share_is_one() -> None:
    with pytest.raises(ConfigError, match=r"data\.max_bad_share: expected a number from 0 to 1, but got 1\.5"):
        DocumentDataModule(max_bad_share=1.5)
