"""Which arguments are files and which are texts."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from squish_pl.cli.texts import NamedText, text_of, texts_of, told
from squish_pl.errors import DataError


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b, c.txt", "Two words", "-x"):
        Path(name).write_text(f"in {name}", encoding="utf-8")


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    "text",
    [
        "A ferry sank.",
        "word\n",
        "Prices rose 3.5",
        "The A/C is off",
        "and/or this",
        "# a note",
        "Null: nothing here",
        "x " * 5000,
        "It was 5 p.m.",
        "Who? Me!",
    ],
)
def test_a_text_is_itself(text: str) -> None:
    assert text_of(text, "summary") == NamedText("summary", text, "the command line")
    assert texts_of(text, "summary") == [text_of(text, "summary")]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("a.txt", NamedText("a", "in a.txt", "a.txt")),
        ("Two words", NamedText("Two words", "in Two words", "Two words")),  # a file that is there comes first
        ("text:Two words", NamedText("it", "Two words", "the command line")),
        ("text:a.txt", NamedText("it", "a.txt", "the command line")),
        ("text:-", NamedText("it", "-", "the command line")),
        ("b, c.txt", NamedText("b, c", "in b, c.txt", "b, c.txt")),
    ],
)
def test_files_and_marked_texts(argument: str, expected: NamedText) -> None:
    assert text_of(argument, "it") == expected
    assert texts_of(argument, "it") == [expected]


@pytest.mark.parametrize(
    "argument",
    [
        "none.txt",
        "word",
        "my article.txt",
        "./an article",
        "../x y",
        "/no/such file",
        "~/no such",
        "see example.org",
        "",
    ],
)
def test_what_may_be_either_is_asked_about(argument: str) -> None:
    with pytest.raises(DataError, match=r"there is no file .* write text: before it"):
        text_of(argument, "summary")


def test_several_files() -> None:
    assert [one.name for one in texts_of("a.txt, Two words", "summary")] == ["a", "Two words"]
    assert [one.text for one in texts_of("Ferries, goats and snow", "summary")] == ["Ferries, goats and snow"]
    with pytest.raises(DataError, match=r"no file 'c\.txt'"):
        texts_of("a.txt,c.txt", "summary")
    with pytest.raises(DataError, match=r"no file 'c'"):
        texts_of("c,d", "summary")
    with pytest.raises(DataError, match=r"no file 'old news.txt'"):
        texts_of("a.txt, old news.txt", "summary")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "\ufeffZoë left.\n".encode())
    assert text_of("-", "document") == NamedText("document", "Zoë left.\n", "standard input")
    give(monkeypatch, b"\xff\xfe")
    with pytest.raises(DataError, match="standard input is not UTF-8"):
        text_of("-", "document")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="there is none"):
        text_of("-", "document")


def test_what_was_understood_is_told() -> None:
    texts = [NamedText("document", "x" * 1234, "standard input"), NamedText("a", "four", "a.txt")]
    assert told(texts) == "document: 1,234 characters from standard input; a: 4 characters from a.txt"
