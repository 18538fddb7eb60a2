"""Names beside the points of a chart, where they cover neither each other nor a marker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from squish_pl.benchmark.report.themes import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# beside a marker, the better places first: a name straight beside it would lie on its error bar
_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
_DISTANCES = (2, 10, 20, 32, 46, 62, 80)  # points from the marker's edge
_CLEAR = 1.5  # points around a marker or a name
_LINE_FROM = 10  # points: from there on a line leads to the name
_OUTSIDE = 10.0  # how much worse it is to leave the chart than to cover something in it
_AWAY = 3.0  # square points that may be covered to be a point nearer


class Point(NamedTuple):
    """A marker and its name: data coordinates, and the marker's radius in points."""

    x: float
    y: float
    radius: float
    name: str


Line = tuple[tuple[float, float], tuple[float, float]]


class _Box(NamedTuple):
    """A rectangle in points."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: _Box) -> float:
        """The common area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width * height if width > 0 and height > 0 else 0.0

    def grown(self, by: float) -> _Box:
        """With a margin all around."""
        return _Box(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def area(self) -> float:
        """The whole area."""
        return (self.right - self.left) * (self.top - self.bottom)


def write_names(figure: Figure, axes: Axes, points: Sequence[Point], lines: Sequence[Line] = ()) -> None:
    """Writes each point's name into a figure that is complete but for them; the layout is then kept.

    Args:
        figure: Holds the axes.
        axes: Holds the markers.
        points: The markers; the first have the first choice of places.
        lines: What a name had better not lie on, level or upright: both ends' data coordinates.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale = 72 / figure.dpi
    renderer = FigureCanvasAgg(figure).get_renderer()
    inside = _Box(*(side * scale for side in axes.get_window_extent(renderer).extents))

    def in_points(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y))
        return float(across) * scale, float(up) * scale

    centres = [in_points(point.x, point.y) for point in points]
    taken = [_Box(x, y, x, y).grown(point.radius + _CLEAR) for (x, y), point in zip(centres, points, strict=True)]
    for ends in lines:
        taken.append(_Box(*in_points(*ends[0]), *in_points(*ends[1])).grown(1))
    for (x, y), point in zip(centres, points, strict=True):
        text = axes.text(0, 0, point.name)
        size = text.get_window_extent(renderer)
        text.remove()

        def cost(place: _NamePlace) -> float:
            covered = sum(place.box.overlap(other) for other in taken)
            outside = place.box.area() - place.box.overlap(inside)
            return covered + _OUTSIDE * outside + _AWAY * place.distance

        distance, right, up, box = min(_places(x, y, point.radius, size.width * scale, size.height * scale), key=cost)
        taken.append(box.grown(_CLEAR))
        line = {
            "arrowstyle": "-",
            "color": INK,
            "alpha": 0.5,
            "linewidth": 0.7,
            "shrinkA": 0,
            "shrinkB": point.radius,
            "relpos": ((1 - right) / 2, (1 - up) / 2),  # from the side of the name that faces the marker
        }
        axes.annotate(
            point.name,
            (point.x, point.y),
            (box.left - x, box.bottom - y),
            textcoords="offset points",
            arrowprops=line if distance >= _LINE_FROM else None,
            zorder=4,
        )


class _NamePlace(NamedTuple):
    """A place that a name may have: how far from the marker's edge, to which side, and where."""

    distance: float
    right: int
    up: int
    box: _Box


def _places(x: float, y: float, radius: float, width: float, height: float) -> Iterator[_NamePlace]:
    """All places, from near to far."""
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            away = (radius + distance) * (0.75 if right and up else 1.0)  # a round marker's edge is nearer there
            # a name to the left ends at its place, one to the right begins there, others are centred
            left = x + right * away - width * (1 - right) / 2
            bottom = y + up * away - height * (1 - up) / 2
            yield _NamePlace(distance, right, up, _Box(left, bottom, left + width, bottom + height))
