"""Scores against the budget, a line for each contender."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from squish_pl.benchmark.leaderboard import Standing
from squish_pl.benchmark.report.lettering import shortened
from squish_pl.benchmark.report.themes import INK, Look, drawing, titled_figure
from squish_pl.benchmark.scores import SCORES, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 11.0, 4.6  # inches
_COLUMNS = 2  # panels in a row
_ENTRY = 0.235  # inches of the legend for a contender


def curves(
    title: str,
    standings: Sequence[Standing],
    budgets: Sequence[str],
    look: Mapping[str, Look],
    scores: Sequence[Score] = SCORES,
) -> Figure:
    """Each score in a panel of its own; budgets stand at equal distances.

    Args:
        title: Drawn above.
        standings: Of one reference.
        budgets: From the smallest up, all of one unit.
        look: Each contender's look; lines are listed in the order of SQUISH at the largest budget they have.
        scores: The run's, two in a row.
    """
    lines: dict[str, dict[int, Standing]] = {}
    for standing in standings:
        if standing.budget in budgets and not math.isnan(standing.squish.mean):
            lines.setdefault(standing.contender, {})[budgets.index(standing.budget)] = standing
    last = {name: points[max(points)].squish.mean for name, points in lines.items()}
    with drawing():
        panel_rows = math.ceil(len(scores) / _COLUMNS)
        figure = titled_figure(title, _WIDTH, max(_HEIGHT * panel_rows, _ENTRY * len(lines) + 0.4))
        panels = figure.subplots(panel_rows, _COLUMNS, squeeze=False).flatten().tolist()
        for unused in panels[len(scores) :]:
            unused.set_axis_off()
        for axes, score in zip(panels, scores, strict=False):
            axes.set_title(shortened(score.title, 60))
            if score.has_zero:
                axes.axhline(0, color=INK, linewidth=0.9)
            for contender in sorted(lines, key=lambda contender: -last[contender]):
                _line(axes, lines[contender], score.key, look[contender])
            axes.set_xticks(range(len(budgets)), budgets)
            axes.set_xlim(-0.25, len(budgets) - 0.75)
            axes.set_xlabel("budget")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", handlelength=3.2, labelspacing=0.9)
    return figure


def _line(axes: Axes, points: Mapping[int, Standing], score: str, mark: Look) -> None:
    places = sorted(points)
    estimates = [points[place].scores[score] for place in places]
    axes.plot(
        places,
        [estimate.mean for estimate in estimates],
        color=mark.colour,
        linestyle=mark.line,
        marker=mark.marker,
        markerfacecolor=mark.filling,
        markersize=6.5,
        linewidth=1.7,
        label=mark.marked_label,
    )
    for place, estimate in zip(places, estimates, strict=True):
        if not math.isnan(estimate.low):
            ends = [estimate.low, estimate.high]
            axes.plot([place, place], ends, color=mark.colour, alpha=0.45, linewidth=1.1, zorder=1.9)
