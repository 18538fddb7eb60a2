"""Systems by the mean of a measure and the mean of people's ratings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from squish_pl.benchmark.report.chart_names import Point, write_names
from squish_pl.benchmark.report.lettering import drawable, shortened
from squish_pl.benchmark.report.themes import COLOURS, drawing, titled_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = (7.5, 4.6)  # inches
_RADIUS = 3.5  # points


def systems_chart(title: str, measure: str, aspect: str, means: Mapping[str, tuple[float, float]]) -> Figure:
    """A marker with its name for each system.

    Args:
        title: Drawn above.
        measure: Of the horizontal axis.
        aspect: Of the upright axis.
        means: By system (the measure's mean, the ratings' mean).
    """
    with drawing():
        figure = titled_figure(drawable(title), *_SIZE)
        axes = figure.add_subplot()
        axes.set_xlabel(f"{shortened(measure)}, mean")
        axes.set_ylabel(f"{shortened(aspect)}, mean rating")
        axes.margins(0.1, 0.1)  # room for names
        x, y = zip(*means.values(), strict=True)
        axes.scatter(x, y, s=(2 * _RADIUS) ** 2, color=COLOURS[0], linewidth=0, zorder=3)
        points = [Point(*place, _RADIUS, shortened(name, 22)) for name, place in means.items()]
        write_names(figure, axes, points)
    return figure
