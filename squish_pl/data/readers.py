"""Files to records: JSON lines, Parquet and plain text, one record a document."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from squish_pl.errors import UNREADABLE, unreadable

FIELDS = ("text", "url", "timestamp", "id", "highlights")
"""The fields of a record: those of C4, the source's own name for it, a person's summary. Only `text` must be there."""

PROBLEM, HOPELESS, EMPTY = "squish_pl.problem", "squish_pl.hopeless", "squish_pl.empty"
"""Fields of a record that stands for one that cannot be read: what is wrong, whether nothing in its file can be read,
and whether that is because there is nothing.

It is a record like any other, so that whoever counts records to find a place again counts it too.
"""

Record = dict[str, Any]


def read_json_lines(path: Path) -> Iterator[Record]:
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
                yield _record(fields, where)
            else:
                yield _problem(f"{where}: expected a JSON object, but got a JSON {type(fields).__name__}")


def read_parquet(path: Path) -> Iterator[Record]:
    """Yields the rows of a Parquet file."""
    with pq.ParquetFile(path) as table:
        columns = [name for name in table.schema_arrow.names if name in FIELDS]
        if "text" not in columns:
            yield _problem(_no_text(str(path), table.schema_arrow.names))
            return
        number = 0
        for rows in table.iter_batches(batch_size=64, columns=columns):
            for fields in rows.to_pylist():
                number += 1
                yield _record(fields, f"row {number} of {path}")


def read_text(path: Path) -> Iterator[Record]:
    """Yields the one document that a text file is, under the file's name."""
    yield {"text": path.read_text(encoding="utf-8-sig"), "url": path.name}


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
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


def read_records(files: list[str], first: str = "") -> Iterator[Record]:
    """Yields the records of files, in order; for each that cannot be read, and for a broken file, one that says why.

    Args:
        files: A data worker's part of them.
        first: The first of all; where nothing in it can be read, its last record says that, too.
    """
    for file in files:
        path, found = Path(file), False
        held: Record | None = None  # the last problem, until it is known whether anything in the file can be read
        for record in _read_file(path):
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


def _read_file(path: Path) -> Iterator[Record]:
    try:
        yield from READERS[kind(path) or ""](path)
    except (*UNREADABLE, pa.ArrowException) as error:
        yield _problem(unreadable(path, error))


def _record(fields: Mapping[str, Any], where: str) -> Record:
    """The known fields of a record whose `text` is a string, or what is wrong with it."""
    if "text" not in fields:
        return _problem(_no_text(where, list(fields)))
    if not isinstance(fields["text"], str):
        return _problem(f"{where}: expected a string in the field `text`, but got {type(fields['text']).__name__}")
    return {name: fields[name] for name in FIELDS if name in fields}


def _problem(what: str) -> Record:
    return {"text": "", PROBLEM: " ".join(what.split())}


def _no_text(where: str, names: list[str]) -> str:
    found = ", ".join(names) if names else "none"
    return f"{where} has no field `text`, which must hold the document; its fields are: {found}. Rename the field"
