"""Summaries that people have rated: JSON lines, one rated summary a line."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squish_pl.errors import DataError
from squish_pl.lm.tokens import whole_characters

_EXPECTED = '{"document": "id", "text": "...", "summary": "...", "scores": {"aspect": 1.0}, "system": "optional"}'


@dataclass(frozen=True)
class RatedDocument:
    """A document and its G rated summaries.

    Attributes:
        id: The file's name for it.
        text: The document.
        summaries: G texts.
        scores: For each summary its ratings by aspect; an aspect that was not rated is missing.
        systems: For each summary who wrote it; None where the file does not say.
    """

    id: str
    text: str
    summaries: tuple[str, ...]
    scores: tuple[Mapping[str, float], ...]
    systems: tuple[str | None, ...]


@dataclass(frozen=True)
class Ratings:
    """A file of rated summaries.

    Attributes:
        name: The file's name.
        documents: In the order in which they first come.
    """

    name: str
    documents: tuple[RatedDocument, ...]

    @property
    def aspects(self) -> list[str]:
        """What was rated, in the order in which it first comes."""
        return list(dict.fromkeys(aspect for d in self.documents for scores in d.scores for aspect in scores))

    def first(self, most: int | None) -> Ratings:
        """The same with its first documents alone."""
        return Ratings(self.name, self.documents[:most])

    def rated(self, aspect: str) -> list[list[float]]:
        """For each document the G ratings of an aspect; NaN where there is none."""
        return [[scores.get(aspect, math.nan) for scores in d.scores] for d in self.documents]


def read_ratings(path: str) -> Ratings:
    """Reads a file, gzipped where its name ends in .gz. Lines of the same document need not follow one another.

    Raises:
        DataError: It cannot be read, a line is no rated summary, or a document has two texts; the message names
            the line.
    """
    file = Path(path).expanduser()
    lines: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        record = _record(line, f"{path} line {number}")
        known = lines.setdefault(record["document"], [])
        if known and known[0]["text"] != record["text"]:
            raise DataError(f"{path} line {number}: the document {record['document']!r} had another text before")
        known.append(record)
    if not lines:
        raise DataError(f"{path} is empty: expected a rated summary on each line, {_EXPECTED}")
    return Ratings(file.name, tuple(_document(id, records) for id, records in lines.items()))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path} is not a complete gzip file: fetch or write it again") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: convert it") from None
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from None


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected {_EXPECTED}, but got {line[:60]!r}")
    for name in ("document", "text", "summary"):
        if not isinstance(record.get(name), str):
            raise DataError(f"{where}: expected a string in the field {name!r}, but got {_shown(record.get(name))}")
    if not record["text"].strip():
        raise DataError(f"{where}: the text of the document {record['document']!r} is empty")
    scores = record.get("scores")
    if not isinstance(scores, dict) or not scores:
        raise DataError(f"{where}: expected a rating for each aspect in the field 'scores', but got {_shown(scores)}")
    for aspect, rating in scores.items():
        if not isinstance(rating, (int, float)) or isinstance(rating, bool) or not math.isfinite(rating):
            raise DataError(f"{where}: expected a number for {aspect!r}, but got {_shown(rating)}")
    if not isinstance(record.get("system"), (str, type(None))):
        raise DataError(f"{where}: expected a string in the field 'system', but got {_shown(record['system'])}")
    return record


def _document(id: str, records: Sequence[dict[str, Any]]) -> RatedDocument:
    return RatedDocument(
        id,
        whole_characters(records[0]["text"]),
        tuple(whole_characters(record["summary"]) for record in records),
        tuple({aspect: float(rating) for aspect, rating in record["scores"].items()} for record in records),
        tuple(record.get("system") for record in records),
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
