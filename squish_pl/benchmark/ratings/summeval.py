"""SummEval's file of annotations (Fabbri et al., 2021), paired with the articles: JSON lines, one summary a line."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from squish_pl.benchmark.ratings.json_fields import json_lines, rating, shown, string
from squish_pl.benchmark.ratings.rated import RatedSummary
from squish_pl.errors import DataError

EXPERTS = "expert_annotations"  #: the field by which the format is told
_EXPECTED = '{"id": "...", "decoded": "...", "expert_annotations": [...], "model_id": "...", "text": "..."}'


def read_summeval(text: str, path: str) -> Iterator[RatedSummary]:
    """Yields the summaries with the experts' ratings, averaged; those of the crowd are left out.

    Raises:
        DataError: The articles are missing, or a line is no annotated summary.
    """
    for where, record in json_lines(text, path, _EXPECTED):
        if "text" not in record:
            raise DataError(
                f"{where}: SummEval's file has no articles (field 'text'), only the names of their files: get the "
                "stories of CNN and Daily Mail and pair them as SummEval's README says, python3 "
                "data_processing/pair_data.py --data_annotations FILE --story_files FOLDER, and read the file "
                "model_annotations.aligned.paired.jsonl that this writes"
            )
        document, whole, summary, system = (string(record, f, where) for f in ("id", "text", "decoded", "model_id"))
        yield RatedSummary(document, whole, summary, _experts(record.get(EXPERTS), where), system, where)


def _experts(annotations: Any, where: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise DataError(f"{where}: expected a list of annotations in {EXPERTS!r}, but got {shown(annotations)}")
    for one in annotations:
        for aspect, value in one.items():
            found.setdefault(aspect, []).append(rating(value, aspect, where))
    if not found:
        raise DataError(f"{where}: nobody has rated the summary: {EXPERTS!r} is empty")
    return {aspect: fmean(values) for aspect, values in found.items()}
