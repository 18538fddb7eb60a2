"""Files of summaries that were made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from squish_pl.data.filters import document_id
from squish_pl.errors import DataError
from squish_pl.lm.tokens import whole_characters

RESULTS = "results.json"  #: what a training run leaves of itself in its folder
When = Literal["before", "after", "last"]
NAMES = ("id", "url", "document")  #: the fields by which a record tells its document


def read_text(path: str) -> str:
    """The text of a file.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"cannot read {path!r}: {reason}") from None


def numbered_summaries(path: str, text: str) -> list[tuple[int, dict[str, Any]]]:
    """The records of JSON lines with the numbers of their lines; the path is for messages.

    Raises:
        DataError: A line is no record with a field `summary`; the message names it.
    """
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("summary", 0), (str, type(None))):
            raise DataError(f'{path} line {number}: expected {{"summary": "text" or null, ...}}, but got {line[:60]!r}')
        records.append((number, record | {"summary": _whole(record.get("summary"))}))
    return records


def run_summaries(folder: str, when: When = "after") -> list[tuple[int, dict[str, Any]]]:
    """The same records of a training run's folder: what it wrote in validation, each with document and budget.

    Args:
        folder: It has a file `results.json`.
        when: Before training, with the best adapter, or with the last one.

    Raises:
        DataError: There is no such file, or it is none of ours, or has no summaries of then.
    """
    path = Path(folder).expanduser() / RESULTS
    if not path.is_file():
        raise DataError(f"the folder {folder} is no training run's: it has no {RESULTS}")
    try:
        lines = [
            (line["document"], line["budget"], line.get(when)) for line in json.loads(read_text(str(path)))["summaries"]
        ]
        told = [
            {"id": document, "budget": budget, "summary": _whole(own["summary"])}
            for document, budget, own in lines
            if own
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataError(
            f"{path} is not what a training run writes: expected summaries by document and budget"
        ) from None
    if not told:
        raise DataError(f"{path} has no summaries of {when!r}: take another of before, after and last")
    return list(enumerate(told, 1))


def document_names(record: Mapping[str, Any]) -> dict[str, str]:
    """What a record tells its document by: `id`, `url`, or of `document`, the whole text, the hash."""
    names = {field: whole_characters(str(record[field])) for field in NAMES if record.get(field) not in (None, "")}
    return names | ({"document": document_id(names["document"])} if "document" in names else {})


def _whole(summary: str | None) -> str | None:
    return None if summary is None else whole_characters(summary)
