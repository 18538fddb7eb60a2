"""A document's text, each span shaded by what a summary saves there."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from squish_pl.benchmark.findings import ShownDocument, ShownSummary
from squish_pl.benchmark.report.lettering import MONO, drawable, fonts, glyph, has_glyph, shortened
from squish_pl.benchmark.report.themes import HELPS, HURTS, INK, drawing
from squish_pl.score.measures.base import score_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 100  # characters on a line
_MOST_CHARACTERS, _MOST_LINES = 6000, 150  # of a text: a figure cannot be scrolled
_BETWEEN, _LONGEST_LINE = "  ·  ", 115  # characters of the proportional font
_FONT_SIZE = 9.0
_CELL = 0.602 * _FONT_SIZE / 72  # inches: the width of a character of the fixed-width font
_LINE = 0.205  # inches
_MARGIN, _BAR = 0.25, 0.62  # inches: around, and for the colour bar
_SHADED = 98.0  # percentile of |nats| that gets the full shade: one rare token must not pale all others
_LEAST_LIMIT = 0.1  # nats: the noise of a summary that saves nothing must not look like savings
_DARKEST = 0.62  # opacity of the strongest shade: the text has to be read on it
_SHADES = 31  # odd, so that one of them is no shade at all


def heat_map(document: ShownDocument, summary: ShownSummary) -> Figure:
    """Draws a document under a summary: blue spans became easier to predict, red ones harder.

    Spans copied into the summary are underlined. Long texts are cut after 6000 characters or 150 lines.

    Args:
        document: The document.
        summary: One of its summaries.

    Raises:
        ValueError: The summary was not measured.
    """
    if summary.saved is None:
        raise ValueError("expected a summary that was measured")
    said, said_places = _laid_out(summary.text or "")
    text, places = _laid_out(document.text)
    said_from = 2.6  # in lines from the top
    heading = said_from + _lines(said_places) + 0.7
    text_from = heading + 1.4
    lines = text_from + _lines(places) + 0.3
    with drawing():
        from matplotlib.figure import Figure

        width, height = _COLUMNS * _CELL + 2 * _MARGIN, lines * _LINE + _BAR + 2 * _MARGIN
        figure = Figure(figsize=(width, height))
        figure.set_label(f"{shortened(document.title, 80)}: nats saved by the summary of {drawable(summary.contender)}")
        place = (_MARGIN / width, (_MARGIN + _BAR) / height, 1 - 2 * _MARGIN / width, lines * _LINE / height)
        axes = figure.add_axes(place)
        axes.set(xlim=(0, _COLUMNS), ylim=(lines, 0))
        axes.set_axis_off()
        axes.text(0, 0.5, shortened(document.title, 78), fontsize=11.5, weight="bold", va="center")
        axes.text(0, 1.7, _scores(summary), va="center")
        _write(axes, said, said_places, said_from)
        cut = f" (the first {len(text):,} of {len(document.text):,} characters)" if document.text != text else ""
        axes.text(0, heading + 0.6, f"The document{cut}", weight="bold", va="center")
        _shade(figure, axes, document, summary, places, text_from)
        _write(axes, text, places, text_from)
    return figure


def shade_limit(document: ShownDocument) -> float:
    """The nats on a span that get the full shade: one figure for all summaries, so that their shades compare."""
    rows = [summary.saved for summary in document.summaries if summary.saved is not None]
    sizes = np.abs(np.concatenate([np.asarray(row, dtype=np.float64) for row in [*rows, []]]))
    sizes = sizes[np.isfinite(sizes)]
    return max(float(np.percentile(sizes, _SHADED)) if sizes.size else 0.0, _LEAST_LIMIT)


class _Place(NamedTuple):
    """Where a character stands: its line, and the cells it takes there."""

    line: int
    column: int
    width: int


def _laid_out(text: str) -> tuple[str, list[_Place]]:
    """As much of a text as is drawn, and a place for each of its characters."""
    places = [place for place in _places(text[:_MOST_CHARACTERS]) if place.line < _MOST_LINES]
    return text[: len(places)], places


def _places(text: str) -> list[_Place]:
    """A place for each character, lines broken between words; a space that no line has room for takes none."""
    places: list[_Place] = []
    line = column = 0
    for word in re.findall(r"\n|[^\S\n]+|\S+", text):
        if word == "\n":
            places.append(_Place(line, column, 0))
            line, column = line + 1, 0
            continue
        widths = [_width(character) for character in word]
        if column and not word.isspace() and column + sum(widths) > _COLUMNS:
            line, column = line + 1, 0
        for width in widths:
            if column + width > _COLUMNS:
                if word.isspace():
                    width = 0
                else:
                    line, column = line + 1, 0
            places.append(_Place(line, column, width))
            column += width
    return places


def _width(character: str) -> int:
    """Cells a character takes."""
    if not glyph(character) or unicodedata.combining(character):
        return 0
    wide = unicodedata.east_asian_width(character) in "WF" and glyph(character) == character
    return 2 if wide else 1


def _lines(places: Sequence[_Place]) -> int:
    return places[-1].line + 1 if places else 1


def _write(axes: Axes, text: str, places: Sequence[_Place], top: float) -> None:
    """Writes a text at its places: the fixed-width font's by the word, other fonts' by the character."""
    font: dict[str, Any] = {"fontfamily": list(fonts(MONO)), "fontsize": _FONT_SIZE, "va": "center_baseline"}
    written = [(place, glyph(character)) for place, character in zip(places, text, strict=True)]

    def key(pair: tuple[_Place, str]) -> tuple[object, ...]:
        place, character = pair
        if not character.strip():
            return ("nothing",)
        return (place.line,) if has_glyph(character, MONO) else (place.line, place.column)

    for kind, together in groupby(written, key=key):
        run = list(together)
        if kind != ("nothing",):
            place = run[0][0]
            axes.text(place.column, top + place.line + 0.5, "".join(character for _, character in run), **font)


def _shade(
    figure: Figure, axes: Axes, document: ShownDocument, summary: ShownSummary, places: Sequence[_Place], top: float
) -> None:
    """Rectangles behind the spans, rules under copied ones, and the colour bar."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.colors import ListedColormap, Normalize

    saved = summary.saved or ()
    copied = summary.copied_spans or [False] * len(saved)
    boxes, shades, rules = [], [], []
    for (start, end), value, is_copied in zip(document.spans, saved, copied, strict=True):
        spanned = zip(places[start:end], document.text[start:end], strict=False)  # the text drawn may be cut
        for line, on_line in groupby(spanned, key=lambda pair: pair[0].line):
            row = list(on_line)
            if not math.isfinite(value) or not "".join(character for _, character in row).strip():
                continue  # the space of a word that went to the next line
            left, right = row[0][0].column, row[-1][0].column + row[-1][0].width
            up, down = top + line + 0.06, top + line + 0.94
            boxes.append([(left, up), (right, up), (right, down), (left, down)])
            shades.append(value)
            if is_copied:
                rules.append([(left, down - 0.03), (right, down - 0.03)])
    limit = shade_limit(document)
    steps = [2 * step / (_SHADES - 1) - 1 for step in range(_SHADES)]  # -1 to 1
    shading = PolyCollection(
        boxes,
        array=shades,
        cmap=ListedColormap([_shade_of(step) for step in steps]),
        norm=Normalize(-limit, limit),
        linewidth=0,
        antialiased=False,  # else faint seams between neighbours
    )
    axes.add_collection(shading)
    axes.add_collection(LineCollection(rules, colors=INK, linewidths=0.9))
    width, height = figure.get_size_inches()
    place = (_MARGIN / width, (_MARGIN + 0.2) / height, 0.42, 0.12 / height)
    bar = figure.colorbar(shading, cax=figure.add_axes(place), orientation="horizontal", extend="both", drawedges=False)
    bar.outline.set_visible(False)
    bar.ax.grid(visible=False)
    bar.set_label(
        "nats saved: blue became easier to predict, red harder; underlined spans are copied", loc="left", fontsize=8.5
    )


def _shade_of(step: float) -> tuple[str, float]:
    return (HELPS if step > 0 else HURTS, abs(step) * _DARKEST)


def _scores(summary: ShownSummary) -> str:
    """Who wrote it under what budget, and what it is worth: as many scores as a line holds, but at least two."""
    head = [shortened(summary.contender), f"budget {drawable(summary.budget)}"]
    scores = [f"{shortened(score_title(key), 20)} {value:.4f}" for key, value in summary.scores.items()]
    tail = [] if summary.copied is None else [f"{summary.copied:.0%} copied"]
    tail += [drawable(summary.verdict)] if summary.verdict else []
    while len(scores) > 2 and len(_BETWEEN.join([*head, *scores, *tail])) > _LONGEST_LINE:
        scores.pop()
    return _BETWEEN.join([*head, *scores, *tail])
