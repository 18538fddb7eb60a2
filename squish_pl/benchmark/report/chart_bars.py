"""The leaderboard as bars, in rank order."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from squish_pl.benchmark.leaderboard import Standing
from squish_pl.benchmark.published import MARK, PublishedScore
from squish_pl.benchmark.report.lettering import drawable, shortened
from squish_pl.benchmark.report.themes import HATCH, INK, Look, drawing, marks_of, titled_figure
from squish_pl.benchmark.scores import Score
from squish_pl.score.bootstrap import Estimate

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SQUISH, _NOVEL = (-0.16, 0.36), (0.19, 0.26)  # where a row has its two bars, and how thick they are
_LIGHT = 0.4  # SQUISH-novel's opacity beside SQUISH
_COLUMN, _BRACKET = 1.015, 1.11  # where figures and brackets stand, by the axes' width
_WIDTH, _PANEL = 9.0, 2.9  # inches: the chart without measures, and more for each
_RATIOS = 5.4, 2.1  # of the first panel's width to that of a measure


def bars(
    title: str,
    standings: Sequence[Standing],
    look: Mapping[str, Look],
    published: Sequence[PublishedScore] = (),
    measures: Sequence[Score] = (),
) -> Figure:
    """SQUISH and SQUISH-novel of each contender with their 95 % intervals, and measures in panels beside them.

    Args:
        title: Drawn above.
        standings: Of one budget and reference, by rank; those without a score are named below the bars.
        look: Each contender's look.
        published: Of the same budget: the best and the median are ruled across.
        measures: Each has a scale of its own; one without a zero is drawn as points.
    """
    shown = [standing for standing in standings if not math.isnan(standing.squish.mean)]
    missing = [look[standing.contender].label for standing in standings if math.isnan(standing.squish.mean)]
    with drawing():
        figure = titled_figure(title, _WIDTH + _PANEL * len(measures), 1.9 + 0.5 * len(shown))
        ratios = [_RATIOS[0], *[_RATIOS[1]] * len(measures)]
        axes, *panels = figure.subplots(1, len(ratios), width_ratios=ratios, sharey=True, squeeze=False)[0]
        for panel in (axes, *panels):
            panel.grid(axis="y", visible=False)
            panel.spines["left"].set_visible(False)
        axes.axvline(0, color=INK, linewidth=0.9)
        for panel, measure in zip(panels, measures, strict=True):
            _panel(panel, measure, shown, look)
        for row, standing in enumerate(shown):
            mark = look[standing.contender]
            _bar(axes, row, standing.squish, _SQUISH, mark, 1.0)
            _bar(axes, row, standing.novel, _NOVEL, mark, _LIGHT)
        for row, (better, worse) in enumerate(pairwise(shown)):
            if worse.rank == better.rank + 1 and better.resolved is False:
                _bracket(axes, row)
        rules = _rules(axes, published)
        names = [f"{look[standing.contender].marked_label}   {standing.rank}" for standing in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        below = ["share of the document's information that the summary saves"]
        if missing:
            below += textwrap.wrap(f"Without any score, and so not shown: {', '.join(missing)}", 120)
        axes.set_xlabel("\n".join(below), loc="left")
        columns = [column for column in (*_legend(shown), rules) if column]
        handles = [entry for column in columns for entry in (*column, _words(""), _words(""))[:3]]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(columns), columnspacing=1.6)
    return figure


def _panel(axes: Axes, measure: Score, shown: Sequence[Standing], look: Mapping[str, Look]) -> None:
    """A measure of each contender, in the rows of the first panel."""
    axes.set_title("\n".join(textwrap.wrap(drawable(measure.title), 26)), loc="left", fontsize=9)
    axes.tick_params(axis="y", labelleft=False)
    axes.locator_params(axis="x", nbins=4)
    if measure.has_zero:
        axes.axvline(0, color=INK, linewidth=0.9)
    for row, standing in enumerate(shown):
        estimate, mark = standing.scores[measure.key], look[standing.contender]
        if measure.has_zero:
            _bar(axes, row, estimate, (0.0, 0.36), mark, 1.0)
        elif not math.isnan(estimate.mean):
            axes.plot(estimate.mean, row, mark.marker, color=mark.colour, markerfacecolor=mark.filling)
            _figure_and_interval(axes, row, estimate, 8.5)


def _bar(axes: Axes, row: int, estimate: Estimate, place: tuple[float, float], mark: Look, opacity: float) -> None:
    if math.isnan(estimate.mean):
        return
    y, (height, length) = row + place[0], (place[1], estimate.mean)
    if mark.is_baseline:
        # in two, since in an SVG a hatch would be as pale as what it lies on
        axes.barh(y, length, height, color=mark.colour, alpha=opacity * 0.3, linewidth=0)
        axes.barh(y, length, height, facecolor="none", edgecolor=(mark.colour, max(opacity, 0.7)), hatch=HATCH)
    else:
        axes.barh(y, length, height, color=mark.colour, alpha=opacity, linewidth=0)
    _figure_and_interval(axes, y, estimate, 8.5 if opacity == 1 else 7.5)


def _figure_and_interval(axes: Axes, y: float, estimate: Estimate, size: float) -> None:
    if not math.isnan(estimate.low):
        axes.plot([estimate.low, estimate.high], [y, y], color=INK, linewidth=1, marker="|", markersize=4.5)
    across = axes.get_yaxis_transform()  # x by the axes' width, y by the rows
    axes.text(_COLUMN, y, f"{estimate.mean:.4f}".replace("-", "−"), transform=across, va="center", fontsize=size)


def _bracket(axes: Axes, row: int) -> None:
    """Between a row and the next, whose order is not resolved."""
    across = axes.get_yaxis_transform()
    ends = [_BRACKET, _BRACKET + 0.008, _BRACKET + 0.008, _BRACKET]
    rows = [row + 0.06, row + 0.06, row + 0.94, row + 0.94]
    axes.plot(ends, rows, transform=across, color=INK, linewidth=0.8, clip_on=False)
    axes.text(_BRACKET + 0.016, row + 0.5, "≈", transform=across, va="center", fontsize=11)


def _rules(axes: Axes, published: Sequence[PublishedScore]) -> list[Artist]:
    """Rules across for the best and the median of published values, and what the legend says of them."""
    if not published:
        return []
    best = max(published, key=lambda score: score.squish)
    middle = median(score.squish for score in published)
    name = shortened(f"{best.model}, {best.mode}", 48)
    lines = [
        (best.squish, (0, (1, 1.6)), f"best of {len(published)} published: {best.squish:.3f} ({name})"),
        (middle, (0, (5, 2.5)), f"their median: {middle:.3f}"),
    ]
    rules: list[Artist] = [
        axes.axvline(value, color=INK, alpha=0.45, linewidth=1.1, linestyle=dashes, zorder=0.9, label=label)
        for value, dashes, label in lines
    ]
    return [*rules, _words(MARK)]


def _legend(shown: Sequence[Standing]) -> list[list[Artist]]:
    """What the legend says of bars, and of what is drawn beside them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds: list[Artist] = [
        Patch(facecolor=INK, label="SQUISH"),
        Patch(facecolor=(INK, _LIGHT), label="SQUISH-novel"),
    ]
    if told := marks_of(shown):
        kinds.append(Patch(facecolor="none", edgecolor=INK, hatch=HATCH, label=told))
    marks: list[Artist] = [Line2D([], [], color=INK, linewidth=1, marker="|", markersize=4.5, label="95 % interval")]
    if any(standing.resolved is False for standing in shown):
        marks.append(_words("≈  order not resolved"))
    return [kinds, marks]


def _words(text: str) -> Artist:
    """An entry of a legend that is only words."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", label=text)
