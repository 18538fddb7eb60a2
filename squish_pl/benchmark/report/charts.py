"""The benchmark's charts: drawn once, one matplotlib figure at a time, and kept as pictures for whoever shows them.

leaderboard -> bars, scatter, curves; a document and its summary -> heat map; all of them -> PNG, SVG
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from squish_pl.benchmark.findings import Findings, ShownSummary
from squish_pl.benchmark.report.chart_bars import bars
from squish_pl.benchmark.report.chart_curves import curves
from squish_pl.benchmark.report.chart_scatter import scatter
from squish_pl.benchmark.report.heat_map import heat_map
from squish_pl.benchmark.report.lettering import drawable, shortened
from squish_pl.benchmark.report.themed_svg import themed_svg
from squish_pl.benchmark.report.themes import drawing, looks
from squish_pl.benchmark.scores import SCORES
from squish_pl.budget import Budget
from squish_pl.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Chart(NamedTuple):
    """A chart by what stands beside it.

    Attributes:
        name: File stem of letters, digits and hyphens; no other chart of the findings has it.
        title: What it shows.
        caption: How to read it, in one or two plain sentences.
        kind: "leaderboard", "scatter", "curves" or "heat-map".
        budget: As text; None for curves, which span several, and for heat maps.
        reference: The reference's name.
    """

    name: str
    title: str
    caption: str
    kind: str
    budget: str | None
    reference: str


class Picture(NamedTuple):
    """A drawn chart, without the figure it was drawn in.

    Attributes:
        chart: What it is.
        png: An image file.
        svg: An image file, in the light theme.
        element: For a page, see `themed_svg`; empty for what a page shows in its own way: leaderboards and heat maps.
    """

    chart: Chart
    png: bytes
    svg: bytes
    element: str


_CAPTIONS = {
    "leaderboard": "Bars in rank order, with 95 % bootstrap intervals over documents. A bracket with ≈ joins "
    "neighbours whose order these documents do not resolve.",
    "scatter": "Right is more of the document saved, up is more of it saved without copying; on the broken diagonal "
    "a score owes nothing to copying. The larger a marker, the more of the summaries is copied.",
    "curves": "A line for each contender, broken for baselines, with 95 % bootstrap intervals over documents. Budgets "
    "stand at equal distances, whatever their sizes.",
    "heat-map": "A document under its best summary: blue became easier to predict, red harder.",
}
_ON_PAGES = ("scatter", "curves")
_HEAT_MAPS = 3  # of the first documents
# names of files as `write_charts` gives them; those of leaderboards and scatters go on with a budget
_OWN_FILE = re.compile(r"((leaderboard|scatter|heat-map)-\d[a-z0-9-]*|curves(-[a-z0-9-]+)?)\.(png|svg)")


def pictures(findings: Findings) -> list[Picture]:
    """Draws every chart once.

    Raises:
        SquishError: matplotlib is not installed.
    """
    return [_picture(chart, figure) for chart, figure in charts(findings)]


def _picture(chart: Chart, figure: Figure) -> Picture:
    element = themed_svg(figure) if chart.kind in _ON_PAGES else ""
    png, svg = io.BytesIO(), io.BytesIO()
    with drawing():
        figure.savefig(png, format="png")
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Picture(chart, png.getvalue(), svg.getvalue(), element)


def charts(findings: Findings) -> Iterator[tuple[Chart, Figure]]:
    """Draws leaderboards, then scatters, then curves, then the first documents' heat maps.

    No figure is kept here beyond its turn. A chart without a single score is left out, and so are curves over fewer
    than two budgets of one unit.

    Raises:
        SquishError: matplotlib is not installed.
    """
    look = looks(findings.board)
    scored = findings.board.groups().items()
    groups = {key: group for key, group in scored if any(not math.isnan(line.squish.mean) for line in group)}
    measures = findings.board.scores[len(SCORES) :]
    several = len({reference for _, reference in groups}) > 1
    taken: set[str] = set()

    def chart(kind: str, title: str, budget: str | None, reference: str, unit: str = "") -> Chart:
        parts = [kind, _slug(budget or unit), _slug(reference) if several else ""]
        return Chart(_unused("-".join(filter(None, parts)), taken), title, _CAPTIONS[kind], kind, budget, reference)

    for (budget, reference), standings in groups.items():
        title = f"Leaderboard: budget {drawable(budget)}, reference {shortened(reference)}"
        published = [score for score in findings.published if Budget.parse(score.budget) == Budget.parse(budget)]
        yield chart("leaderboard", title, budget, reference), bars(title, standings, look, published, measures)
    for (budget, reference), standings in groups.items():
        title = f"Saved and copied: budget {drawable(budget)}, reference {shortened(reference)}"
        yield chart("scatter", title, budget, reference), scatter(title, standings, look)
    for reference in dict.fromkeys(reference for _, reference in groups):
        of_all = [standing for key, group in groups.items() if key[1] == reference for standing in group]
        ladders = _ladders(standing.budget for standing in of_all)
        for unit, budgets in ladders.items():
            told = unit if len(ladders) > 1 else ""
            title = f"Scores by budget{told and f' in {told}'}: reference {shortened(reference)}"
            yield (
                chart("curves", title, None, reference, told),
                curves(title, of_all, budgets, look, findings.board.scores),
            )
    yield from _heat_maps(findings)


def _heat_maps(findings: Findings) -> Iterator[tuple[Chart, Figure]]:
    """Of the first documents, each under the summary of it that is best by the leaderboard's score.

    They are numbered by their places among all; one without a measured summary that counts is passed over.
    """

    def score(summary: ShownSummary) -> float:
        return summary.scores.get(findings.board.rank_by, -math.inf)

    for number, document in enumerate(islice(findings.documents(), _HEAT_MAPS), 1):
        measured = [summary for summary in document.summaries if summary.saved is not None and not summary.verdict]
        if measured:
            kind, title = "heat-map", f"document {number}"
            chart = Chart(f"{kind}-{number}", title, _CAPTIONS[kind], kind, None, document.reference)
            yield chart, heat_map(document, max(measured, key=score))


def write_charts(drawn: Sequence[Picture], folder: Path) -> list[Path]:
    """Writes every picture as PNG and SVG.

    Args:
        drawn: The pictures.
        folder: Made where it is missing. Charts of an earlier call are taken away, whatever their budgets were, once
            the new ones are on the disk; other files stay.

    Returns:
        The files, in order.

    Raises:
        DataError: They cannot be written.
    """
    contents = {f"{p.chart.name}.{kind}": data for p in drawn for kind, data in (("png", p.png), ("svg", p.svg))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".charts.", dir=folder) as fresh:
            for name, data in contents.items():
                Path(fresh, name).write_bytes(data)
            for name in contents:
                os.replace(Path(fresh, name), folder / name)
        for earlier in folder.iterdir():  # of an earlier report, with other budgets
            if _OWN_FILE.fullmatch(earlier.name) and earlier.name not in contents:
                earlier.unlink()
    except OSError as error:
        raise DataError(
            f"cannot write charts to {str(folder)!r}: {error.strerror or error}; "
            "free disk space or choose another folder"
        ) from None
    return [folder / name for name in contents]


def _ladders(budgets: Iterable[str]) -> dict[str, list[str]]:
    """Budgets that can share an axis, by their unit, from the smallest up; those that stand alone are left out."""
    parsed = {budget: Budget.parse(budget) for budget in budgets}
    ladders: dict[str, list[str]] = {}
    for budget in sorted(parsed, key=lambda budget: parsed[budget].value):
        ladders.setdefault(parsed[budget].unit.value, []).append(budget)
    return {unit: ladder for unit, ladder in ladders.items() if len(ladder) > 1}


def _slug(text: str) -> str:
    """For file names: "5% tokens" is "5pct-tokens"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("%", "pct ")).strip("-")[:40]


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number where another chart has it."""
    found = next(other for n in count(1) if (other := name if n == 1 else f"{name}-{n}") not in taken)
    taken.add(found)
    return found
