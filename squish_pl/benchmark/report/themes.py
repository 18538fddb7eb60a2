"""How charts look: their colours and settings, and the mark of each contender."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

from squish_pl.benchmark.leaderboard import Leaderboard, Standing
from squish_pl.benchmark.report.lettering import fonts, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "chart-title"  #: the group id of a title that is drawn into a chart's file, and that a page says itself

# eight colours that differ for the colour-blind too: Okabe and Ito's, the pale ones darkened to be seen on white
COLOURS = ("#0072b2", "#d55e00", "#008a65", "#b8578f", "#b57d00", "#3a95cc", "#85770a", "#5a5f66")
HELPS, HURTS = "#2166ac", "#c2352b"  #: a heat map's two sides; they are seen on light and dark alike
INK, FAINT, SURFACE = "#22272e", "#d9dee4", "#ffffff"

#: the variables of `themed_svg`, and the colours that charts are drawn in; on a light page the same look best
LIGHT = {
    "--chart-ink": INK,
    "--chart-faint": FAINT,
    "--chart-surface": SURFACE,
    **{f"--chart-{number}": colour for number, colour in enumerate(COLOURS, 1)},
}

HATCH = "/////"  #: of baselines' bars
_MARKERS = "o^sDvPX"  # seven beside eight colours, so that the two together come again after 56 contenders only

_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": SURFACE,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.dpi": 180,
    "svg.hashsalt": "squish-pl",  # the same chart gives the same file
    "text.color": INK,
    "text.hinting": "none",  # widths that do not depend on the resolution
    "text.parse_math": False,  # a name may hold dollar signs
    "xtick.color": INK,
    "xtick.labelsize": 8.5,
    "xtick.major.size": 0,
    "ytick.color": INK,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
}
_lock = RLock()  # the settings are the process's: two threads must not change and restore them at once


@contextmanager
def drawing(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Inside, matplotlib draws in this project's way, whatever the user's own settings are.

    Args:
        settings: More of matplotlib's settings.

    Raises:
        SquishError: matplotlib is not installed.
    """
    own = {**_SETTINGS, "font.family": list(fonts()), **(settings or {})}
    from matplotlib import style

    with _lock, style.context(["default", own]):
        yield


def titled_figure(title: str, width: float, height: float) -> Figure:
    """A figure of so many inches with nothing but its title; inside `drawing`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.set_label(title)
    figure.suptitle(title, x=0.01, ha="left", gid=TITLE)
    return figure


@dataclass(frozen=True, slots=True)
class Look:
    """How a contender is drawn, in every chart.

    Attributes:
        label: Its name, shortened and drawable; no other contender has it.
        colour: Of bars, lines and markers.
        marker: Its shape.
        line: Line style.
        is_baseline: Whether it is a baseline: hatched bars, hollow markers, broken lines.
        mark: "baseline", "attack" or nothing.
    """

    label: str
    colour: str
    marker: str
    line: str
    is_baseline: bool
    mark: str

    @property
    def marked_label(self) -> str:
        """The label, and whether it is a baseline or an attack."""
        return f"{self.label} ({self.mark})" if self.mark else self.label

    @property
    def filling(self) -> str:
        """Of its markers."""
        return SURFACE if self.is_baseline else self.colour


def marks_of(standings: Iterable[Standing]) -> str:
    """What hatches and hollow markers stand for among standings, for a legend; empty where there are none."""
    return ", ".join(sorted({standing.mark for standing in standings} - {""}, reverse=True))


def looks(board: Leaderboard) -> dict[str, Look]:
    """The look of each contender, given out in the order of the first budget's ranking, baselines last."""
    found: dict[str, Look] = {}
    taken: dict[str, int] = {}  # by shortened name, how many have it
    for standing in sorted(board.standings, key=lambda standing: standing.is_baseline):
        if standing.contender in found:
            continue
        number, label = len(found), shortened(standing.contender)
        taken[label] = taken.get(label, 0) + 1
        again = number >= len(COLOURS)
        found[standing.contender] = Look(
            label=label if taken[label] == 1 else f"{label} ({taken[label]})",
            colour=COLOURS[number % len(COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            line=(":" if again else "--") if standing.is_baseline else ("-." if again else "-"),
            is_baseline=standing.is_baseline,
            mark=standing.mark,
        )
    return found
