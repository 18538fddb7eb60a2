"""Files of summaries: every line read as it is, every mistake with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from squish_pl.data.filters import document_id
from squish_pl.data.summaries import document_names, numbered_summaries, read_text
from squish_pl.errors import DataError


def test_text_is_read_without_a_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes("\ufeffnaïve\n東京\n".encode())
    assert read_text(str(tmp_path / "a.jsonl")) == "naïve\n東京\n"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_text("~/a.jsonl") == "naïve\n東京\n"


def test_a_file_that_cannot_be_read_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    reasons = {"latin.txt": "it is not UTF-8 text", "none.txt": "No such file or directory", ".": "Is a directory"}
    for path, reason in reasons.items():
        with pytest.raises(DataError, match=rf"^cannot read '{re.escape(path)}': {reason}$") as caught:
            read_text(path)
        assert caught.value.__suppress_context__


def test_records_keep_their_fields_and_the_numbers_of_their_lines() -> None:
    text = '\n{"summary": "one", "id": 7}\r\n  \n\t\n{"summary": null}\n{"id": "x", "summary": ""}'
    assert numbered_summaries("sums.jsonl", text) == [
        (2, {"summary": "one", "id": 7}),
        (5, {"summary": None}),
        (6, {"id": "x", "summary": ""}),
    ]
    assert numbered_summaries("sums.jsonl", " \n\n") == []


def test_a_record_tells_its_document_by_one_or_more_names() -> None:
    record = {"document": "a text", "url": "u", "id": 7, "summary": "s"}
    assert list(document_names(record).items()) == [("id", "7"), ("url", "u"), ("document", document_id("a text"))]
    assert document_names({"summary": "s", "id": 0, "url": ""}) == {"id": "0"}
    assert document_names({"summary": "s", "id": None}) == {}


def test_line_breaks_of_other_kinds_and_half_characters_stay_in_a_summary() -> None:
    text = '{"summary": "one\u2028two\u0085three\x0cfour"}'.replace("\x0c", "\\f") + '\n{"summary": "half \\ud83d"}'
    assert numbered_summaries("sums.jsonl", text) == [
        (1, {"summary": "one\u2028two\u0085three\x0cfour"}),
        (2, {"summary": "half ?"}),
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"summary": ',
        '"one"',
        '["one"]',
        "null",
        '{"id": "x"}',
        '{"summary": 7}',
        '{"summary": ["one"]}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_summary_is_named(line: str) -> None:
    with pytest.raises(DataError) as caught:
        numbered_summaries("sums.jsonl", '\n{"summary": "one"}\n' + line)
    expected = '{"summary": "text" or null, ...}'
    assert str(caught.value) == f"sums.jsonl line 3: expected {expected}, but got {line[:60]!r}"
