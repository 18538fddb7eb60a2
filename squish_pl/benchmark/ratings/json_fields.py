"""Lines that hold a JSON object, and what is expected in their fields."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from squish_pl.errors import DataError


def json_lines(text: str, path: str, expected: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields where each line stands, and its object; blank lines are passed over.

    Raises:
        DataError: A line is no JSON object.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        record = json_object(line)
        if record is None:
            raise DataError(f"{where}: expected {expected}, but got {line[:60]!r}")
        yield where, record


def json_object(line: str) -> dict[str, Any] | None:
    """None where the line holds anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def string(record: Mapping[str, Any], field: str, where: str) -> str:
    """The string in a field.

    Raises:
        DataError: It holds anything else.
    """
    value = record.get(field)
    if not isinstance(value, str):
        raise DataError(f"{where}: expected a string in the field {field!r}, but got {shown(value)}")
    return value


def rating(value: Any, aspect: str, where: str) -> float:
    """A rating as a number.

    Raises:
        DataError: It is none.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise DataError(f"{where}: expected a number for {aspect!r}, but got {shown(value)}")
    return float(value)


def shown(value: Any) -> str:
    """A value in a message."""
    return "nothing" if value is None else repr(value)[:60]
