"""The project's own format: JSON lines, one rated summary a line."""

from __future__ import annotations

from collections.abc import Iterator

from squish_pl.benchmark.ratings.json_fields import json_lines, rating, shown, string
from squish_pl.benchmark.ratings.rated import RatedSummary
from squish_pl.errors import DataError

EXPECTED = '{"document": "id", "text": "...", "summary": "...", "scores": {"aspect": 1.0}, "system": "optional"}'


def read_own_format(text: str, path: str) -> Iterator[RatedSummary]:
    """Yields the rated summaries.

    Raises:
        DataError: A line is none; the message names it.
    """
    for where, record in json_lines(text, path, EXPECTED):
        document, whole, summary = (string(record, field, where) for field in ("document", "text", "summary"))
        scores = record.get("scores")
        if not isinstance(scores, dict) or not scores:
            raise DataError(
                f"{where}: expected a rating for each aspect in the field 'scores', but got {shown(scores)}"
            )
        numbers = {aspect: rating(value, aspect, where) for aspect, value in scores.items()}
        system = None if record.get("system") is None else string(record, "system", where)
        yield RatedSummary(document, whole, summary, numbers, system, where)
