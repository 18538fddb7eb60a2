"""Files of rated summaries."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from squish_pl.benchmark.ratings.reading import read_ratings
from squish_pl.errors import DataError


def line(**changes: Any) -> dict[str, Any]:
    return {"document": "a", "text": "the ferry left", "summary": "a ferry", "scores": {"fluency": 3}} | changes


def write(path: Path, *lines: dict[str, Any] | str) -> str:
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines), encoding="utf-8")
    return str(path)


LINES = (
    line(system="M1", scores={"fluency": 3, "relevance": 1.5}),
    line(document="b", text="snow", summary=" snow "),
    "",
    line(summary="", system="M2", scores={"relevance": 2}),
)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read(tmp_path: Path, packed: bool) -> None:
    path = Path(write(tmp_path / "r.jsonl", *LINES))
    if packed:
        (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "r.jsonl.gz"
    found = read_ratings(str(path))
    assert found.name == path.name
    assert found.aspects == ["fluency", "relevance"]
    one, two = found.documents
    assert (one.id, one.text, one.summaries, one.systems) == ("a", "the ferry left", ("a ferry", ""), ("M1", "M2"))
    assert (two.id, two.text, two.summaries, two.systems) == ("b", "snow", (" snow ",), (None,))
    assert found.rated("relevance")[0] == [1.5, 2.0]
    assert found.rated("fluency")[0] == pytest.approx([3.0, math.nan], nan_ok=True)
    assert [document.id for document in found.first(1).documents] == ["a"]
    assert found.first(None) == found


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "line 2: expected"),
        ("[1]", "line 2: expected"),
        (line(document=3), "line 2: expected a string in the field 'document', but got 3"),
        (line(summary=None), "line 2: expected a string in the field 'summary', but got nothing"),
        (line(text=" "), "line 2: the text of the document 'a' is empty"),
        (line(text="other"), "line 2: the document 'a' had another text before"),
        (line(scores={}), "line 2: expected a rating for each aspect"),
        (line(scores=[1]), "line 2: expected a rating for each aspect"),
        (line(scores={"x": True}), "line 2: expected a number for 'x', but got True"),
        (line(scores={"x": "3"}), "line 2: expected a number for 'x', but got '3'"),
        (line(scores={"x": math.nan}), "line 2: expected a number for 'x', but got nan"),
        (line(system=4), "line 2: expected a string in the field 'system', but got 4"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: dict[str, Any] | str, words: str) -> None:
    with pytest.raises(DataError) as told:
        read_ratings(write(tmp_path / "r.jsonl", line(), bad))
    assert words in str(told.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "r.jsonl.gz"
    broken.write_bytes(gzip.compress(json.dumps(line()).encode())[:-9])
    for path, words in (
        (str(broken), "not a complete gzip file"),
        (str(tmp_path / "none.jsonl"), "cannot be read"),
        (str(tmp_path), "cannot be read"),
        (write(tmp_path / "empty.jsonl", ""), "is empty: expected JSON lines"),
    ):
        with pytest.raises(DataError, match=words):
            read_ratings(path)
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xe9")
    with pytest.raises(DataError, match="not UTF-8"):
        read_ratings(str(tmp_path / "latin.jsonl"))


def test_half_characters_become_question_marks(tmp_path: Path) -> None:
    found = read_ratings(
        write(tmp_path / "r.jsonl", '{"document": "a", "text": "x\\ud800", "summary": "\\udc00", "scores": {"q": 1}}')
    )
    assert (found.documents[0].text, found.documents[0].summaries) == ("x?", ("?",))
