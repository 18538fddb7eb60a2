"""Files to records: JSON lines, Parquet and plain text, one record a document.

A record has the document in its field `text`, whatever field it was read from; see `text_of`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from squish_pl.data.transcripts import CHATS, transcript
from squish_pl.errors import UNREADABLE, unreadable

TEXT = "text"
FIELDS = (TEXT, "url", "timestamp", "id", "highlights")
"""The fields of a record: those of C4, the source's own name for it, a person's summary. Only `text` must be there."""

PROBLEM, HOPELESS, EMPTY = "squish_pl.problem", "squish_pl.hopeless", "squish_pl.empty"
"""Fields of a record that stands for one that cannot be read: what is wrong, whether nothing in its file can be read,
and whether that is because there is nothing.

It is a record like any other, so that whoever counts records to find a place again counts it too.
"""

Record = dict[str, Any]


def read_json_lines(path: Path, text_field: str | None = None) -> Iterator[Record]:
    """Yields the records of a file with one JSON object a line, gzipped where its name ends in .gz."""
    opener: Callable[..., IO[bytes]] = gzip.open if path.suffix.lower() == ".gz" else open  # type: ignore[assignment]
    with opener(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"line {number} of {path}"
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", error)  # without a line number, which would be that within this line
                yield _problem(f"{where}: expected a JSON object on every line, but got {reason}")
                continue
            if isinstance(fields, dict):
                yield _record(fields, where, text_field)
            else:
                yield _problem(f"{where}: expected a JSON object, but got a JSON {type(fields).__name__}")


def read_parquet(path: Path, text_field: str | None = None) -> Iterator[Record]:
    """Yields the rows of a Parquet file."""
    with pq.ParquetFile(path) as table:
        names = table.schema_arrow.names
        fields_of_text = text_fields_in(names, text_field)
        if not fields_of_text:
            yield _problem(no_text(str(path), names, text_field))
            return
        columns = [name for name in names if name in fields_of_text or name in FIELDS[1:]]
        number = 0
        for rows in table.iter_batches(batch_size=64, columns=columns):
            for fields in rows.to_pylist():
                number += 1
                yield _record(fields, f"row {number} of {path}", text_field)


def read_text(path: Path, text_field: str | None = None) -> Iterator[Record]:
    """Yields the one document that a text file is, under the file's name; it has no fields to choose from."""
    yield {TEXT: path.read_text(encoding="utf-8-sig"), "url": path.name}


READERS: dict[str, Callable[[Path, str | None], Iterator[Record]]] = {
    ".json": read_json_lines,
    ".jsonl": read_json_lines,
    ".json.gz": read_json_lines,
    ".jsonl.gz": read_json_lines,
    ".parquet": read_parquet,
    ".txt": read_text,
}
"""How a file is read, by the end of its name."""


def kind(path: Path) -> str | None:
    """The end of the file's name that says how it is read: a key of `READERS`, or None."""
    return next((ending for ending in READERS if path.name.lower().endswith(ending)), None)


def text_fields_in(names: Collection[str], wanted: str | None) -> list[str]:
    """Those fields that a document may be in: the one that is wanted, else `text` and then those of chats."""
    return [name for name in ([wanted] if wanted else (TEXT, *CHATS)) if name in names]


def text_of(fields: Mapping[str, Any], wanted: str | None) -> str:
    """The document of a record: a text or, in any field but `text`, a chat; see `text_fields_in`.

    Raises:
        ValueError: It has none; the message says what was expected and found.
    """
    names = text_fields_in(fields, wanted) or [wanted or TEXT]
    field = next((name for name in names if fields.get(name) is not None), names[0])
    value, chat = fields.get(field), field != TEXT
    if isinstance(value, str):
        return value
    expected = f"expected a string{' or a list of messages' if chat else ''} in the field `{field}`, but "
    if not chat or not isinstance(value, list):
        raise ValueError(f"{expected}got {type(value).__name__}")
    try:
        return transcript(value)
    except ValueError as error:
        raise ValueError(f"{expected}it {error}") from None


def read_records(files: list[str], first: str = "", text_field: str | None = None) -> Iterator[Record]:
    """Yields the records of files, in order; for each that cannot be read, and for a broken file, one that says why.

    Args:
        files: A data worker's part of them.
        first: The first of all; where nothing in it can be read, its last record says that, too.
        text_field: The field with the document; see `text_fields_in`.
    """
    for file in files:
        path, found = Path(file), False
        held: Record | None = None  # the last problem, until it is known whether anything in the file can be read
        for record in _read_file(path, text_field):
            if held is not None:
                yield held
            held = record if PROBLEM in record else None
            if held is None:
                found = True
                yield record
        if held is not None:
            yield held | {HOPELESS: True} if file == first and not found else held
        elif not found:
            yield _problem(f"{path} is empty") | {EMPTY: True}


def _read_file(path: Path, text_field: str | None) -> Iterator[Record]:
    try:
        yield from READERS[kind(path) or ""](path, text_field)
    except (*UNREADABLE, pa.ArrowException) as error:
        yield _problem(unreadable(path, error))


def _record(fields: Mapping[str, Any], where: str, text_field: str | None) -> Record:
    """The known fields of a record with a document, or what is wrong with it."""
    if not text_fields_in(fields, text_field):
        return _problem(no_text(where, fields, text_field))
    try:
        text = text_of(fields, text_field)
    except ValueError as error:
        return _problem(f"{where}: {error}")
    return {TEXT: text, **{name: fields[name] for name in FIELDS[1:] if name in fields}}


def with_text(record: Mapping[str, Any], text_field: str | None = TEXT) -> Record:
    """What a record of the hub lacks to be one of ours: its document as `text`, or what is wrong with it."""
    try:
        return {TEXT: text_of(record, text_field)}
    except ValueError as error:
        where = "a record" if record.get("id") is None else f"a record (id {record['id']})"  # it has no line
        return _problem(f"{where}: {error}")


def _problem(what: str) -> Record:
    return {"text": "", PROBLEM: " ".join(what.split())}


def no_text(where: str, names: Collection[str], wanted: str | None, what: str = "field") -> str:
    """That there is no field (or column) with a document among these."""
    found = ", ".join(names) if names else "none"
    chats = "" if wanted else f", nor a chat in {' or '.join(f'`{name}`' for name in CHATS)}"
    return (
        f"{where} has no {what} `{wanted or TEXT}`, which must hold the document{chats}; its {what}s are: {found}. "
        "Name the right one as text_field in a list of sources (data.documents)"
    )
