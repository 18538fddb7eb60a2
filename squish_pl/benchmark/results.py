"""Results as plain records: one JSON line for each summary and reference."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from squish_pl.benchmark.leaderboard import Row
from squish_pl.benchmark.records import NOT_SCORED, Outcome, ScoreRecord
from squish_pl.benchmark.scores import SCORES, Score
from squish_pl.files import written_whole
from squish_pl.score.baselines import lead_key


def result_lines(
    rows: Sequence[Row],
    references: Sequence[str],
    scores: Sequence[Score] = SCORES,
    opening: str | None = None,
) -> Iterator[dict[str, Any]]:
    """One record for each task and reference, document by document.

    Args:
        rows: With their scores.
        references: Names.
        scores: The run's.
        opening: Name of the contender that copies the opening, whose scores stand beside those of the others.

    Yields:
        What was asked and written, and its scores under their keys: those with a zero are 0 for what is over the budget
        or cannot be parsed, the others null; all are null for what failed or is not scored.
    """
    place: dict[str, int] = {}
    for row in rows:
        place.setdefault(row.task.document_hash, len(place))
    lead = {(row.task.document_hash, row.task.budget): row for row in rows if row.contender == opening}
    for row in sorted(rows, key=lambda row: place[row.task.document_hash]):
        if row.contender == opening:
            continue
        for reference in references:
            known = row.scores.get(reference)
            line = _asked(row) | {"reference": reference} | _scored(row, known, scores)
            if known is None and line["outcome"] == Outcome.WRITTEN.value:
                line["reason"] = NOT_SCORED
            beside = lead.get((row.task.document_hash, row.task.budget))
            if beside is not None and reference in beside.scores:
                known = beside.scores[reference]
                line |= {lead_key(score.key): finite(known.value(score.key)) for score in scores}
                line["information"] = known.information
            yield line


def write_lines(lines: Iterable[dict[str, Any]], path: Path) -> None:
    """Writes JSON lines, the whole file or nothing.

    Raises:
        DataError: The file cannot be written.
    """
    with written_whole(path) as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def _asked(row: Row) -> dict[str, Any]:
    document, answer = row.task.document, row.answer
    return {
        "contender": row.contender,
        "id": document.name or document.id,
        "url": document.url,
        "budget": row.task.budget,
        "sample": row.task.sample,
        "outcome": row.outcome.value,
        "reason": answer.reason if answer else "not asked yet",
        "summary": answer.summary if answer else None,
    }


def _scored(row: Row, known: ScoreRecord | None, scores: Sequence[Score]) -> dict[str, Any]:
    if known is not None:
        return {
            "within_budget": known.within_budget,
            **{score.key: finite(known.value(score.key)) for score in scores},
            "length_used": finite(known.length_used),
            "copied": known.copied,
            "information": known.information,
        }
    unparsable = row.outcome is Outcome.UNPARSABLE
    return {
        "within_budget": False if unparsable else None,
        **{score.key: finite(score.nothing) if unparsable else None for score in scores},
        **dict.fromkeys(("length_used", "copied", "information")),
    }


def finite(value: float) -> float | None:
    """A number as JSON has it: null for one that is none, or infinite."""
    return value if math.isfinite(value) else None
