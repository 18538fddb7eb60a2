from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from squish_pl.data.filters import document_id, make_document, read_documents
from squish_pl.data.sources import open_source
from squish_pl.errors import DataError
from squish_pl.types import Document

Write = Callable[[str, list[str]], Path]
TEXTS = ["first text", "second text\nof two lines", "third \U0001f600"]


def texts_of(spec: str | Path, split: str = "train") -> list[str]:
    return [record["text"] for record in open_source(str(spec), split)]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "A.JSON"])
def test_json_lines_with_address_and_time(name: str, write: Write) -> None:
    path = write(name, TEXTS)
    records = list(open_source(str(path)))
    assert [record["text"] for record in records] == TEXTS
    assert records[1] == {"text": TEXTS[1], "url": "https://a.test/1", "timestamp": "2025-01-02T03:04:05Z"}


def test_json_lines_need_no_more_than_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "extra": [1, {"a": null}]}\n\n{"text": "two", "extra": "other type"}')
    assert list(open_source(str(path))) == [{"text": "one"}, {"text": "two"}]


NAMED = [
    {"text": "one", "id": "cnn-1", "highlights": "A strike ends."},
    {"text": "two", "id": "cnn-2", "highlights": " Two sentences.\nAnd one. "},
    {"text": "three", "id": None, "highlights": None},
]
NAMED_DOCUMENTS = [
    Document("one", document_id("one"), name="cnn-1", highlights="A strike ends."),
    Document("two", document_id("two"), name="cnn-2", highlights="Two sentences.\nAnd one."),
    Document("three", document_id("three")),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz", "a.parquet"])
def test_the_sources_own_name_and_a_persons_summary_are_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    lines = "".join(json.dumps(record) + "\n" for record in NAMED).encode()
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(NAMED), path)
    else:
        path.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    assert list(open_source(str(path))) == NAMED
    assert list(read_documents(open_source(str(path)))) == NAMED_DOCUMENTS


def test_highlights_as_a_list_of_sentences_and_numbers_as_names(tmp_path: Path) -> None:
    records = [
        {"text": "one", "id": 0, "highlights": [" A strike ends. ", "Nobody slept."]},
        {"text": "two", "highlights": []},
        {"text": "three", "id": "", "highlights": "One text."},  # kinds may be mixed in one file
        {"text": "four", "id": 12.5},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    pq.write_table(pa.Table.from_pylist(records[:2]), tmp_path / "a.parquet")
    expected = [
        Document("one", document_id("one"), name="0", highlights="A strike ends.\nNobody slept."),
        Document("two", document_id("two")),
        Document("three", document_id("three"), highlights="One text."),
        Document("four", document_id("four"), name="12.5"),
    ]
    assert list(read_documents(open_source(str(tmp_path / "a.jsonl")))) == expected
    assert list(read_documents(open_source(str(tmp_path / "a.parquet")))) == expected[:2]


def test_half_characters_and_odd_highlights_do_no_harm() -> None:
    record = {"text": "a\ud83d", "id": "b\ud83d", "highlights": ["c\ud83d", 7, None]}
    assert make_document(record) == Document("a?", document_id("a?"), name="b?", highlights="c?")
    for odd in (7, {"text": "no"}, True):
        assert make_document({"text": "a", "highlights": odd}).highlights == ""


def test_a_hub_datasets_names_and_highlights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"text": ["one", "two"], "id": [3, 4], "highlights": [["A.", "B."], []], "label": [0, 1]}
    stream = datasets.Dataset.from_dict(columns).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: stream)
    assert list(read_documents(open_source("hub://a/b"))) == [
        Document("one", document_id("one"), name="3", highlights="A.\nB."),
        Document("two", document_id("two"), name="4"),
    ]


def test_parquet_in_several_row_groups(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(150)]
    table = pa.table({"text": texts, "url": [f"u{number}" for number in range(150)], "label": list(range(150))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=40)
    records = list(open_source(str(tmp_path / "a.parquet")))
    assert [record["text"] for record in records] == texts
    assert records[149] == {"text": "text 149", "url": "u149"}


def test_text_folder_is_one_document_a_file(tmp_path: Path) -> None:
    for name, text in zip(("b.txt", "a.txt", ".hidden.txt", "notes.md"), ("bee\n", "ay", "no", "no"), strict=True):
        (tmp_path / name).write_text(text)
    assert list(open_source(str(tmp_path))) == [{"text": "ay", "url": "a.txt"}, {"text": "bee\n", "url": "b.txt"}]
    document = next(read_documents(open_source(str(tmp_path / "b.txt"))))
    assert (document.text, document.url, document.id) == ("bee\n", "b.txt", document_id("bee\n"))


def test_document_id_is_the_start_of_the_sha256() -> None:
    assert document_id("abc") == "ba7816bf8f01cfea"


def test_glob_and_folder_read_files_in_order_of_their_names(write: Write, tmp_path: Path) -> None:
    write("data/n-1.json.gz", ["three"])
    write("data/n-0.json.gz", ["one", "two"])
    write("data/other.jsonl", ["four"])
    assert texts_of(tmp_path / "data/n-*.json.gz") == ["one", "two", "three"]
    assert texts_of(tmp_path / "data") == ["one", "two", "three", "four"]
    assert open_source(str(tmp_path / "data")).num_shards == 3


def test_home_folder_is_understood(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", TEXTS)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert texts_of("~/a.jsonl") == TEXTS
    assert texts_of("~/*.jsonl") == TEXTS


def test_samples_have_two_splits_without_a_common_article() -> None:
    train, validation = texts_of("samples"), texts_of("samples", "validation")
    assert (len(set(train)), len(set(validation))) == (30, 10)
    assert not set(train) & set(validation)
    assert set(next(iter(open_source("samples")))) == {"text", "highlights", "timestamp", "url"}


def refused(spec: str | Path, *parts: str) -> None:
    """Asserts that opening or reading the documents fails with a message that holds all the parts, and no chain."""
    with pytest.raises(DataError) as caught:
        list(read_documents(open_source(str(spec))))
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_missing_path(tmp_path: Path) -> None:
    refused(tmp_path / "no.jsonl", "no.jsonl", "no file or folder", "hub://", '"samples"')


def test_nothing_to_read(tmp_path: Path) -> None:
    refused(tmp_path, "no file that can be read", ".json.gz", "no file")
    refused(tmp_path / "*.jsonl", "*.jsonl", "no file")
    (tmp_path / "a.pdf").touch()
    refused(tmp_path, "a.pdf", ".parquet")
    refused(tmp_path / "a.pdf", "a.pdf", ".txt")


def test_mixed_folder(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", TEXTS)
    (tmp_path / "b.txt").touch()
    refused(tmp_path, "mixes", "a.jsonl", "b.txt", "separate folders")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{"text": "a"}\n{"body": "b", "n": 1}\n', ("line 2 of", "no field `text`", "body, n")),
        ('{"text": null}\n', ("line 1 of", "a string", "NoneType")),
        ('{"text": "a"}\nplain words\n', ("line 2 of", "a JSON object on every line")),
        ('[\n{"text": "a"}\n]', ("line 1 of", "a JSON object on every line")),
        ('"text"\n', ("line 1 of", "JSON str")),
    ],
)
def test_bad_json_lines(content: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    refused(tmp_path / "bad.jsonl", "bad.jsonl", *parts)


def test_broken_files_are_named(write: Write, tmp_path: Path) -> None:
    whole = write("whole.json.gz", [f"{number} {TEXTS}" for number in range(2000)]).read_bytes()
    (tmp_path / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.json.gz", "cut.json.gz", "not a complete gzip file")
    (tmp_path / "plain.json.gz").write_text(json.dumps({"text": "a"}))
    refused(tmp_path / "plain.json.gz", "plain.json.gz", "gzip")
    (tmp_path / "bytes.json.gz").write_bytes(gzip.compress(b'{"text": "\xff\xfe"}'))
    refused(tmp_path / "bytes.json.gz", "line 1 of", "bytes.json.gz", "utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    refused(tmp_path / "bytes.txt", "bytes.txt", "UTF-8")
    (tmp_path / "words.parquet").write_text("words")
    refused(tmp_path / "words.parquet", "words.parquet", "cannot be read")
    pq.write_table(pa.table({"body": ["a"], "n": [1]}), tmp_path / "body.parquet")
    refused(tmp_path / "body.parquet", "body.parquet", "no field `text`", "body, n")


def test_records_before_the_damage_are_read(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", TEXTS)
    path.write_text(path.read_text() + "{")
    documents = read_documents(open_source(str(path)))
    assert [next(documents).text for _ in TEXTS] == TEXTS
    with pytest.raises(DataError, match=re.escape(f"line 4 of {path}")):
        next(documents)


def test_hub_is_streamed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = write("a.jsonl", TEXTS), []

    def load_dataset(*args: Any, **kwargs: Any) -> datasets.IterableDataset:
        calls.append((args, kwargs))
        return open_source(str(path))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert texts_of("hub://allenai/c4/realnewslike", "validation") == TEXTS
    assert texts_of("hub://owner/name") == TEXTS
    assert calls == [
        (("allenai/c4", "realnewslike"), {"split": "validation", "streaming": True}),
        (("owner/name", None), {"split": "train", "streaming": True}),
    ]


@pytest.mark.parametrize(
    "error", [ConnectionError("no network"), FileNotFoundError("doesn't exist"), ValueError("split")]
)
def test_hub_out_of_reach(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refused("hub://allenai/c4/en", "hub://allenai/c4/en", str(error), "name samples", "local file")


def test_hub_without_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = datasets.Dataset.from_dict({"article": ["a"], "id": [1]}).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: columns)
    refused("hub://a/b", "no column `text`", "article, id")


@pytest.mark.parametrize("spec", ["hub://c4", "hub://", "hub://a/b/c/d", "hub://a b/c"])
def test_hub_name_is_owner_and_name(spec: str) -> None:
    refused(spec, "hub://<owner>/<name>", spec)
