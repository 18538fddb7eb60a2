"""Newsroom's human evaluation (Grusky et al., 2018): a CSV table, one rater's ratings of one summary a row."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from squish_pl.benchmark.ratings.rated import RatedSummary
from squish_pl.errors import DataError

_TEXTS = ("ArticleID", "System", "ArticleText", "SystemSummary")
_RATINGS = {
    "CoherenceRating": "coherence",
    "FluencyRating": "fluency",
    "InformativenessRating": "informativeness",
    "RelevanceRating": "relevance",
}
COLUMNS = (*_TEXTS, *_RATINGS)  #: the columns by which the format is told
_BREAK = re.compile(r"\s*(?:</?(?:p|br)\b[^<>]*>\s*)+")


def is_newsroom(line: str) -> bool:
    """Whether it is the heading of such a table."""
    return set(COLUMNS) <= {name.strip() for name in next(csv.reader([line]), [])}


def read_newsroom(text: str, path: str) -> Iterator[RatedSummary]:
    """Yields each system's summary of each article once, with the mean over its raters.

    Raises:
        DataError: A row is no rated summary, or a system has two summaries of one article.
    """
    found: dict[tuple[str, str | None], list[RatedSummary]] = {}
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
    try:
        for row in rows:
            one = _rated(row, f"{path} line {rows.line_num}")
            known = found.setdefault((one.document, one.system), [])
            if known and known[0].summary != one.summary:
                raise DataError(f"{one.where}: {one.system} had another summary of {one.document!r} before")
            known.append(one)
    except csv.Error as error:
        raise DataError(f"{path} line {rows.line_num}: it is no row of a CSV table ({error})") from None
    for several in found.values():
        yield _mean(several)


def _rated(row: dict[str, str | None], where: str) -> RatedSummary:
    if missing := [name for name in COLUMNS if row[name] is None]:
        raise DataError(f"{where}: the row ends before the column {missing[0]!r}")
    document, system, text, summary = (str(row[name]) for name in _TEXTS)
    scores = {aspect: _number(str(row[name]), name, where) for name, aspect in _RATINGS.items()}
    return RatedSummary(document, _plain(text), _plain(summary), scores, system, where)


def _number(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: expected a number in the column {column!r}, but got {cell[:60]!r}")
    return value


def _plain(text: str) -> str:
    """The table holds HTML: tags between paragraphs, and entities."""
    return html.unescape(_BREAK.sub("\n", text)).strip()


def _mean(several: Sequence[RatedSummary]) -> RatedSummary:
    # fmean is exact: equal ratings in another order are a tie
    means = {aspect: fmean(one.scores[aspect] for one in several) for aspect in several[0].scores}
    return replace(several[0], scores=means)
