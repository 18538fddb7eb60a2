"""What the meta-evaluation found, arranged for its page: tables of correlations, dots of summaries, systems' means."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from squish_pl.benchmark.correlation import ranks
from squish_pl.benchmark.meta import KINDS, LEAST, RESAMPLES
from squish_pl.benchmark.meta_run import MetaFindings, MetaRow
from squish_pl.benchmark.meta_tables import mark, measured_documents
from squish_pl.benchmark.report.page_text import MINUS
from squish_pl.benchmark.report.page_views import Scale
from squish_pl.score.bootstrap import Estimate

#: How a kind of correlation is called, and what it is.
KIND_TEXTS = {
    "within": ("within documents", "Spearman’s ρ among the summaries of each document, its mean over documents."),
    "summary": ("over all summaries", "Spearman’s ρ over all summaries of all documents together."),
    "system": ("over systems", "Spearman’s ρ over the means of those who wrote the summaries."),
    "partial": (
        "beyond length and copying",
        "Ranks within documents, after least squares on the ranks of a summary’s length and of the share of it that "
        "is copied.",
    ),
}
#: How dots are laid out, and what stands beside them.
LAYOUTS = {
    "values": ("their values", "Axes end at the lowest and the highest value and rating; ρ is over all summaries."),
    "ranks": (
        "ranks within each document",
        "A summary stands where it comes among those of its own document, lowest to highest; ρ is the mean within "
        "documents.",
    ),
}
BOX = (40.0, 8.0, 312.0, 204.0)  #: left, top, right and bottom of a plot's axes; the picture is 320 by 224
_INSET = 8.0  # between an axis and the outermost dots
_DOT = 4.0  # the diameter of a summary alone
_LARGEST = 5  # classes of dots, each twice as many summaries as the one before


class Cell(NamedTuple):
    """A correlation with what is said of the measure's lead."""

    estimate: Estimate
    note: str


class CorrelationTable(NamedTuple):
    """Measures by a file's aspects, in one kind of correlation.

    Attributes:
        file: The file's name.
        kind: One of `KINDS`.
        about: How many documents and summaries.
        aspects: The columns.
        rows: By measure a cell for each aspect; empty where no aspect has this kind of correlation.
    """

    file: str
    kind: str
    about: str
    aspects: list[str]
    rows: dict[str, list[Cell]]


class Dots(NamedTuple):
    """Dots of one size: the stroke's width, and an SVG path with a point for each."""

    width: float
    path: str


class Plot(NamedTuple):
    """Summaries by a measure (to the right) and people's ratings (up).

    Attributes:
        rated: File and aspect, as `rated_name` says it.
        layout: One of `LAYOUTS`.
        measure: Its name.
        dots: Smallest first; a larger one stands for several summaries at one place.
        summaries: How many there are.
        right: What the horizontal axis begins and ends with.
        up: What the upright axis begins and ends with.
        estimate: The correlation that belongs to the layout.
    """

    rated: str
    layout: str
    measure: str
    dots: list[Dots]
    summaries: int
    right: tuple[str, str]
    up: tuple[str, str]
    estimate: Estimate


class Systems(NamedTuple):
    """Who wrote summaries, by the means of a measure and of people's ratings.

    Attributes:
        rated: File and aspect, as `rated_name` says it.
        measure: Its name.
        aspect: What was rated.
        means: By system (the measure's mean, the ratings' mean).
        estimate: The correlation over systems.
    """

    rated: str
    measure: str
    aspect: str
    means: dict[str, tuple[float, float]]
    estimate: Estimate


def rated_name(row: MetaRow) -> str:
    """File and aspect together."""
    return f"{row.file}: {row.aspect}"


def shown_facts(findings: MetaFindings) -> dict[str, str]:
    """Facts of the run in words."""
    facts = findings.facts
    cut = facts.get("max_tokens")
    return {
        "Reference": findings.reference,
        "Documents": "\n".join(f"{len(file.documents)} of {file.name}" for file in findings.files),
        "Cut": "no" if cut is None else f"after {cut} tokens",
        "Compared with": findings.rows[0].measure if findings.rows else "",
        "Intervals": f"95 %, {RESAMPLES:,} resamplings of the documents",
        "Frame": str(facts.get("frame", "")),
        "squish-pl": str(facts.get("squish-pl", "")),
    }


def correlation_tables(rows: Sequence[MetaRow]) -> list[CorrelationTable]:
    """For each kind a table of each file."""
    by_file: dict[str, list[MetaRow]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    return [_table(file, kind, own) for kind in KINDS for file, own in by_file.items()]


def _table(file: str, kind: str, own: Sequence[MetaRow]) -> CorrelationTable:
    notes = {"": "", "+": "ahead", "-": "behind"}
    cells: dict[str, list[Cell]] = {}
    for row in own:
        note = notes[mark(row)] if kind == "within" else ""
        cells.setdefault(row.measure, []).append(Cell(row.agreement.of(kind), note))
    nothing = all(math.isnan(row.agreement.of(kind).mean) for row in own)
    first = own[0].agreement
    about = f"{measured_documents(first)} documents, {first.summaries} summaries"
    return CorrelationTable(file, kind, about, list(dict.fromkeys(r.aspect for r in own)), {} if nothing else cells)


def common_scale(tables: Iterable[CorrelationTable]) -> Scale:
    """One for all tables, so that bars can be compared."""
    return Scale.of(cell.estimate for table in tables for cells in table.rows.values() for cell in cells)


def plots(findings: MetaFindings) -> Iterator[Plot]:
    """For each file, aspect and measure one in each layout."""
    for row, values, ratings, _ in _rated(findings):
        x, y = torch.cat(values).tolist(), torch.cat(ratings).tolist()
        if not x:
            continue
        ends = (_figure(min(x)), _figure(max(x))), (_figure(min(y)), _figure(max(y)))
        yield Plot(rated_name(row), "values", row.measure, _dots(x, y), len(x), *ends, row.agreement.summary)
        x, y = (torch.cat([_places(part) for part in some]).tolist() for some in (values, ratings))
        ends = ("lowest", "highest"), ("low", "high")
        yield Plot(rated_name(row), "ranks", row.measure, _dots(x, y), len(x), *ends, row.agreement.within)


def systems(findings: MetaFindings) -> Iterator[Systems]:
    """For each file, aspect and measure, where at least three systems are known."""
    for row, values, ratings, names in _rated(findings):
        found: dict[str, list[tuple[float, float]]] = {}
        for v, r, own in zip(values, ratings, names, strict=True):
            for name, pair in zip(own, zip(v.tolist(), r.tolist(), strict=True), strict=True):
                if name is not None:
                    found.setdefault(name, []).append(pair)
        means = {name: (fmean(v for v, _ in pairs), fmean(r for _, r in pairs)) for name, pairs in found.items()}
        if len(means) >= LEAST:
            yield Systems(rated_name(row), row.measure, row.aspect, means, row.agreement.system)


def _rated(
    findings: MetaFindings,
) -> Iterator[tuple[MetaRow, list[Tensor], list[Tensor], list[list[str | None]]]]:
    """With each row the values, ratings and systems of the summaries that have a value and a rating, by document."""
    files = {file.name: file for file in findings.files}
    for row in findings.rows:
        file = files[row.file]
        values, ratings, names = [], [], []
        said = zip(findings.values[row.file][row.measure], file.rated(row.aspect), file.documents, strict=True)
        for value, rating, document in said:
            r = torch.tensor(rating, dtype=torch.float64)
            there = ~(value.isnan() | r.isnan())
            values.append(value[there].double())
            ratings.append(r[there])
            names.append([name for name, ok in zip(document.systems, there.tolist(), strict=True) if ok])
        yield row, values, ratings, names


def _places(values: Tensor) -> Tensor:
    """Where each value comes among all, above 0 and below 1."""
    return (ranks(values) - 0.5) / max(1, len(values))


def _dots(x: Sequence[float], y: Sequence[float]) -> list[Dots]:
    left, top, right, bottom = BOX
    across = _spread(x, left + _INSET, right - _INSET)
    upward = _spread(y, bottom - _INSET, top + _INSET)
    places = Counter((round(a), round(b)) for a, b in zip(across, upward, strict=True))
    sizes: dict[int, list[str]] = {}
    for (a, b), summaries in places.items():
        sizes.setdefault(min(summaries.bit_length(), _LARGEST), []).append(f"M{a} {b}h0")
    # twice the summaries, twice the area
    return [Dots(round(_DOT * 2 ** ((size - 1) / 2), 1), "".join(path)) for size, path in sorted(sizes.items())]


def _spread(values: Sequence[float], low: float, high: float) -> list[float]:
    least, most = min(values), max(values)
    if least == most:
        return [(low + high) / 2] * len(values)
    return [low + (high - low) * (value - least) / (most - least) for value in values]


def _figure(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)
