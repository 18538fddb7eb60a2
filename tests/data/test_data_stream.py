from __future__ import annotations

import io
import pickle
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from squish_pl.budget import Budget
from squish_pl.data.filters import HeldOut, Selection, document_id
from squish_pl.data.sources import open_source
from squish_pl.data.stream import DocumentStream, Progress, StreamLoader
from squish_pl.errors import DataError
from squish_pl.types import Document, DocumentBatch

Write = Callable[[str, list[str]], Path]


def take(stream: DocumentStream, batches: int, workers: int = 0) -> list[DocumentBatch]:
    return list(islice(iter(StreamLoader(stream, workers)), batches))


def texts(batches: list[DocumentBatch]) -> list[list[str]]:
    return [[document.text for document in batch.documents] for batch in batches]


def flat(batches: list[DocumentBatch]) -> list[str]:
    return [text for batch in texts(batches) for text in batch]


def stored(progress: Progress) -> Progress:
    """The progress as a checkpoint gives it back: nothing but plain values gets through."""
    file = io.BytesIO()
    torch.save({"batches": progress.batches, "shards": progress.shards}, file)
    return Progress(**torch.load(io.BytesIO(file.getvalue()), weights_only=True))


def test_without_shuffling_the_order_is_the_sources(corpus: tuple[str, list[str]]) -> None:
    spec, all_texts = corpus
    for window in (0, 1):
        batches = take(DocumentStream(open_source(spec), batch_size=10, shuffle_window=window), 5)
        assert flat(batches) == all_texts * 2
    assert batches[0].documents[0] == Document(all_texts[0], document_id(all_texts[0]), "https://a.test/0")


def test_windows_are_shuffled_each_for_itself(corpus: tuple[str, list[str]]) -> None:
    spec, all_texts = corpus
    seen = flat(take(DocumentStream(open_source(spec), batch_size=5, shuffle_window=10), 10))
    for epoch in (seen[:25], seen[25:]):
        for start in (0, 10, 20):
            window = epoch[start : start + 10]
            assert window != all_texts[start : start + 10]
            assert sorted(window) == sorted(all_texts[start : start + 10])
    assert seen[:25] != seen[25:]


def test_order_depends_on_the_seed_alone(corpus: tuple[str, list[str]]) -> None:
    first, again, other = (take(DocumentStream(open_source(corpus[0]), seed=seed), 10) for seed in (1, 1, 2))
    assert texts(first) == texts(again) != texts(other)
    assert [batch.position for batch in first] == [batch.position for batch in again]


def test_batches_run_across_epochs(corpus: tuple[str, list[str]]) -> None:
    spec, all_texts = corpus
    batches = take(DocumentStream(open_source(spec), batch_size=8, shuffle_window=7), 25)  # 8 epochs in 200 documents
    assert [len(batch) for batch in batches] == [8] * 25
    assert Counter(flat(batches)) == Counter(all_texts * 8)
    assert batches[3].position["0"]["epoch"] == 1  # documents 25 to 32


@pytest.mark.parametrize("spec_files", [1, 3])
@pytest.mark.parametrize(("world_size", "workers"), [(1, 2), (1, 3), (2, 0), (3, 0), (2, 2)])
def test_shards_are_disjoint_and_complete(
    spec_files: int, world_size: int, workers: int, corpus: tuple[str, list[str]], write: Write
) -> None:
    spec, all_texts = corpus
    if spec_files == 1:
        spec = str(write("one.jsonl", all_texts))
    seen: dict[str, set[str]] = {}
    for rank in range(world_size):
        stream = DocumentStream(open_source(spec), batch_size=1, shuffle_window=4, rank=rank, world_size=world_size)
        for batch in take(stream, 25 * max(1, workers), workers):
            ((shard, position),) = batch.position.items()
            assert int(shard) // max(1, workers) == rank
            if position["epoch"] == 0:
                assert batch.documents[0].text not in seen.setdefault(shard, set())
                seen[shard].add(batch.documents[0].text)
    assert len(seen) == world_size * max(1, workers)
    assert sorted(text for shard in seen.values() for text in shard) == sorted(all_texts)


@pytest.mark.parametrize("window", [1, 4, 256])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_resumed_equals_uninterrupted(workers: int, window: int, corpus: tuple[str, list[str]]) -> None:
    def stream(progress: Progress | None = None) -> DocumentStream:
        return DocumentStream(
            open_source(corpus[0]), batch_size=3, selection=Selection(60), shuffle_window=window, progress=progress
        )

    whole = take(stream(), 26, workers)  # 78 documents: at least 3 epochs
    assert max(position["epoch"] for batch in whole for position in batch.position.values()) >= 3
    stops = range(25) if workers == 0 else (1, 2, 7, 12)  # starting processes is slow
    for stop in stops:
        progress = Progress()
        for batch in whole[:stop]:
            progress.advance(batch)
        assert texts(take(stream(stored(progress)), 26 - stop, workers)) == texts(whole[stop:])


def arrow_json(folder: Path, texts: list[str]) -> datasets.IterableDataset:
    """A stream of the kind that the hub gives."""
    files = sorted(str(file) for file in folder.glob("*.json*"))
    return datasets.load_dataset("json", data_files=files, split="train", streaming=True)


def arrow_parquet(folder: Path, texts: list[str]) -> datasets.IterableDataset:
    for number in range(2):
        table = pa.table({"text": texts[13 * number : 13 * number + 13]})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=4)
    files = [str(folder / f"{number}.parquet") for number in range(2)]
    return datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)


def own_parquet(folder: Path, texts: list[str]) -> datasets.IterableDataset:
    arrow_parquet(folder, texts)
    return open_source(str(folder / "*.parquet"))


@pytest.mark.parametrize("make", [arrow_json, arrow_parquet, own_parquet])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_resume_is_exact_for_every_kind_of_source(
    make: Callable[[Path, list[str]], datasets.IterableDataset], world_size: int, corpus: tuple[str, list[str]]
) -> None:
    def stream(progress: Progress | None = None) -> DocumentStream:
        source = make(Path(corpus[0]), corpus[1])
        return DocumentStream(source, batch_size=2, shuffle_window=5, rank=0, world_size=world_size, progress=progress)

    whole = take(stream(), 16)
    if world_size == 1:
        assert sorted(flat(whole)[:25]) == sorted(corpus[1])
    for stop in (1, 3, 6, 12, 13, 15):
        progress = Progress()
        for batch in whole[:stop]:
            progress.advance(batch)
        assert texts(take(stream(stored(progress)), 16 - stop)) == texts(whole[stop:])


def test_iterating_again_goes_on_after_the_last_batch_trained_on(corpus: tuple[str, list[str]]) -> None:
    progress = Progress()
    loader = StreamLoader(DocumentStream(open_source(corpus[0]), batch_size=3, shuffle_window=5, progress=progress))
    whole = list(islice(iter(loader), 9))
    iterator = iter(loader)
    for _ in range(4):
        progress.advance(next(iterator))
    next(iterator)  # read ahead, not trained on
    assert texts(list(islice(iter(loader), 5))) == texts(whole[4:])


def test_held_out_documents_never_come(corpus: tuple[str, list[str]]) -> None:
    spec, all_texts = corpus
    ids = frozenset(document_id(text) for text in all_texts[3:6])
    by_share = {text for text in all_texts if int(document_id(text), 16) / 16**16 < 0.3}
    assert by_share
    stream = DocumentStream(open_source(spec), batch_size=1, held_out=HeldOut(ids, 0.3), shuffle_window=6)
    expected = [text for text in all_texts if text not in by_share and text not in all_texts[3:6]]
    assert Counter(flat(take(stream, 3 * len(expected)))) == Counter(expected * 3)


def test_lengths_are_those_of_the_uncut_text(corpus: tuple[str, list[str]]) -> None:
    spec, all_texts = corpus

    def cut(document: Document) -> Document:
        return Document(document.text[:5], document.id)

    expected = [text for text in all_texts if 55 <= len(text) <= 65]
    assert 0 < len(expected) < 25
    stream = DocumentStream(open_source(spec), batch_size=1, selection=Selection(55, 65), cut=cut, shuffle_window=0)
    batches = take(stream, len(expected))
    assert [batch.documents[0] for batch in batches] == [Document(text[:5], document_id(text)) for text in expected]


def test_length_limits_include_their_bounds() -> None:
    selection = Selection(3, 4)
    used = [text for text in ("ab", "abc", "abcd", "abcde", "   ") if not selection.objection(Document(text))]
    assert used == ["abc", "abcd"]
    assert Selection().objection(Document(" \n")) == "blank"


def test_documents_with_their_longest_summary_have_a_limit_too() -> None:
    """With 10 %, of 99 and of 100 characters: 108.9 and 110."""
    budgets = tuple(map(Budget.parse, ("10%", "5%", "90% tokens", "200 bytes")))
    for most, used in ((110, [99, 100]), (109, [99]), (108, [])):
        selection = Selection(max_with_summary=most, budgets=budgets)
        assert [n for n in (99, 100) if not selection.objection(Document("x" * n))] == used
    absolute = Selection(max_with_summary=110, budgets=(*budgets, Budget.parse("12 chars")))
    assert [n for n in (98, 99) if not absolute.objection(Document("x" * n))] == [98]
    assert absolute.objection(Document("x" * 99)) == "with a summary longer than max_with_summary=110"


def test_the_originals_longest_document() -> None:
    """Its own condition, in binary floating point, at every length around the bound of each of its budgets."""
    for budget in (0.01, 0.02, 0.05, 0.1, 0.2):
        selection = Selection(max_with_summary=15884, budgets=(Budget.parse(f"{budget:.0%}"),))
        bound = int(15884 / (1 + budget))
        for length in range(bound - 30, bound + 30):
            passed_over = length > 16384 - length * budget - 500
            assert (selection.objection(Document("x" * length)) is not None) == passed_over


def test_documents_cut_to_nothing_are_passed_over(write: Write) -> None:
    spec = str(write("a.jsonl", ["xx", "keep", "xy", "this"]))

    def cut(document: Document) -> Document:
        return Document("" if document.text.startswith("x") else document.text)

    stream = DocumentStream(open_source(spec), batch_size=1, cut=cut, shuffle_window=3)
    whole = take(stream, 8)
    assert Counter(flat(whole)) == {"keep": 4, "this": 4}
    for stop in range(1, 8):
        progress = Progress(stop, {"0": dict(whole[stop - 1].position["0"])})
        again = DocumentStream(open_source(spec), batch_size=1, cut=cut, shuffle_window=3, progress=progress)
        assert texts(take(again, 8 - stop)) == texts(whole[stop:])


@pytest.mark.parametrize("workers", [0, 1])
def test_no_document_left_is_an_error(workers: int, write: Write) -> None:
    spec = str(write("a.jsonl", ["a" * 5, "b" * 6, "c" * 20, "d" * 10]))
    held_out = HeldOut(frozenset([document_id("d" * 10)]))
    stream = DocumentStream(open_source(spec), "my texts", selection=Selection(8, 15), held_out=held_out)
    with pytest.raises(DataError) as caught:
        take(stream, 1, workers)
    assert str(caught.value) == (
        "my texts gave no document to train on: 4 records were read, of them 2 shorter than min_characters=8, "
        "1 longer than max_characters=15, 1 held out for validation. To go on, use more documents, "
        "or change the limits on their length or holdout_share"
    )


def test_no_document_left_for_a_worker_is_an_error(write: Write) -> None:
    stream = DocumentStream(open_source(str(write("a.jsonl", ["only one"]))), "a.jsonl", batch_size=1)
    with pytest.raises(DataError, match=r"in part 2 of 2 .*0 records were read.*lower num_workers"):
        take(stream, 2, workers=2)


def test_a_file_of_which_nothing_can_be_read_is_named_by_a_worker_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{")
    with pytest.raises(DataError) as caught:
        take(DocumentStream(open_source(str(path)), batch_size=1, shuffle_window=0), 2, workers=1)
    assert str(caught.value).startswith(f"line 1 of {path}: expected a JSON object")


def test_stream_can_be_pickled(corpus: tuple[str, list[str]]) -> None:
    stream: Any = DocumentStream(open_source(corpus[0]), batch_size=3)
    assert texts(take(pickle.loads(pickle.dumps(stream)), 3)) == texts(take(stream, 3))
