"""SQUISH against SQUISH-novel: who copies, and who says it anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from squish_pl.benchmark.leaderboard import Standing
from squish_pl.benchmark.report.chart_names import Line, Point, write_names
from squish_pl.benchmark.report.themes import INK, SURFACE, Look, drawing, marks_of, titled_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (8.5, 6.0)  # inches
_SMALLEST, _LARGEST = 45.0, 340.0  # a marker's area at 0 and 100 % copied, in square points


def scatter(title: str, standings: Sequence[Standing], look: Mapping[str, Look]) -> Figure:
    """A marker for each contender, the larger the more of its summaries is copied.

    Args:
        title: Drawn above.
        standings: Of one budget and reference; those without a score are left out.
        look: Each contender's look.
    """
    shown = [line for line in standings if not math.isnan(line.squish.mean) and not math.isnan(line.novel.mean)]
    with drawing():
        figure = titled_figure(title, *_SIZE)
        axes = figure.add_subplot()
        axes.set_xlabel("SQUISH")
        axes.set_ylabel("SQUISH-novel")
        axes.margins(0.18, 0.12)  # room for names
        for line in shown:
            for ends in _intervals(line):
                axes.plot(*zip(*ends, strict=True), color=look[line.contender].colour, alpha=0.35, linewidth=1.2)
        # large markers first, so that small ones lie on them
        for line in sorted(shown, key=lambda line: -_area(line.copied)):
            mark = look[line.contender]
            axes.scatter(
                line.squish.mean,
                line.novel.mean,
                s=_area(line.copied),
                marker=mark.marker,
                facecolor=mark.filling,
                edgecolor=mark.colour,
                linewidth=1.6,
                zorder=3,
                label=mark.label,
            )
        _guides(axes)
        figure.legend(handles=_legend(shown), loc="outside lower left", ncols=6, columnspacing=1.6)
        _name(figure, axes, shown, look)
    return figure


def _area(copied: float) -> float:
    """A marker's area: it grows with the share copied, which is NaN where nothing was written."""
    return _SMALLEST + (_LARGEST - _SMALLEST) * (0.0 if math.isnan(copied) else copied)


def _intervals(line: Standing) -> list[Line]:
    """The ends of a standing's intervals, level and upright."""
    x, y = line.squish, line.novel
    level: Line = ((x.low, y.mean), (x.high, y.mean))
    upright: Line = ((x.mean, y.low), (x.mean, y.high))
    return [ends for ends, estimate in ((level, x), (upright, y)) if not math.isnan(estimate.low)]


def _name(figure: Figure, axes: Axes, shown: Sequence[Standing], look: Mapping[str, Look]) -> None:
    points = []
    for line in shown:
        mark = look[line.contender]
        radius = math.sqrt(_area(line.copied)) * (0.71 if mark.marker == "D" else 0.5)  # "D" is a square on its corner
        points.append(Point(line.squish.mean, line.novel.mean, radius, mark.label))
    zero: Line = ((axes.get_xlim()[0], 0.0), (axes.get_xlim()[1], 0.0))
    write_names(figure, axes, points, [zero, *(ends for line in shown for ends in _intervals(line))])


def _guides(axes: Axes) -> None:
    """Zero lines, and the diagonal on which nothing is copied."""
    limits = axes.get_xlim(), axes.get_ylim()
    axes.axhline(0, color=INK, linewidth=0.9, alpha=0.6, zorder=1)
    axes.axvline(0, color=INK, linewidth=0.9, alpha=0.6, zorder=1)
    axes.axline((0, 0), slope=1, color=INK, alpha=0.4, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _legend(shown: Sequence[Standing]) -> list[Artist]:
    from matplotlib.lines import Line2D

    sizes = [(0.0, "0 % copied"), (0.5, "50 %"), (1.0, "100 %")]
    handles: list[Artist] = [
        _dot(label, color=(INK, 0.55), markeredgewidth=0, markersize=math.sqrt(_area(share))) for share, label in sizes
    ]
    if told := marks_of(shown):
        handles.append(_dot(told, color=INK, markerfacecolor=SURFACE, markeredgewidth=1.6, markersize=7))
    handles.append(Line2D([], [], color=INK, alpha=0.4, linewidth=1, linestyle=(0, (4, 3)), label="nothing copied"))
    handles.append(Line2D([], [], color=INK, alpha=0.4, linewidth=1.2, label="95 % interval"))
    return handles


def _dot(label: str, **look: Any) -> Artist:
    """A round marker in the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", marker="o", label=label, **look)
