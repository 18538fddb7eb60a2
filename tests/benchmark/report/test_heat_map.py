"""Heat maps: what is shaded, underlined and written where."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import pytest
from chart_examples import document, findings
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from report_examples import unpacked

from squish_pl.benchmark.findings import ShownDocument, ShownSummary
from squish_pl.benchmark.report.charts import charts
from squish_pl.benchmark.report.heat_map import heat_map, shade_limit
from squish_pl.benchmark.report.page_documents import packed
from squish_pl.benchmark.report.themed_svg import themed_svg
from squish_pl.benchmark.report.themes import HELPS, HURTS, drawing


def drawn(
    text: str, spans: Sequence[tuple[int, int]], saved: Sequence[float], copied: Sequence[bool] | None = None
) -> Figure:
    summary = ShownSummary("model", "10%", 0, "short", "", {"squish": 0.1234, "novel": -0.01}, 0.5, 0.25, saved, copied)
    figure = heat_map(ShownDocument("doc", text, "r", 9.0, spans, [(0, len(text))], [summary]), summary)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()
    return figure


def shades(axes: Axes) -> PolyCollection:
    (found,) = [found for found in axes.collections if isinstance(found, PolyCollection)]
    return found


def boxes(axes: Axes) -> list[tuple[float, float]]:
    """First and last column of every shaded rectangle."""
    return [(path.get_extents().x0, path.get_extents().x1) for path in shades(axes).get_paths()]


def underlined(axes: Axes) -> list[tuple[float, float]]:
    (found,) = [found for found in axes.collections if isinstance(found, LineCollection)]
    return [(segment[0][0], segment[1][0]) for segment in found.get_segments()]


def test_shades_have_the_sign_and_the_size_of_the_savings() -> None:
    axes = drawn("aa bb cc dd", [(0, 2), (2, 5), (5, 8), (8, 11)], [2.0, -1.0, 0.0, 1.0]).axes[0]
    colours = shades(axes).get_facecolors()
    assert [to_hex(colours[place]) for place in (0, 1, 3)] == [HELPS, HURTS, HELPS]
    opacities = [colour[3] for colour in colours]
    assert opacities[2] == 0
    assert opacities[0] > opacities[3] > 0
    assert opacities[3] == pytest.approx(opacities[1], abs=1e-12)
    low, high = shades(axes).get_clim()
    assert low == -high
    assert boxes(axes) == [(0, 2), (2, 5), (5, 8), (8, 11)]


def test_shades_are_those_of_the_page_for_every_summary() -> None:
    pale, strong = (ShownSummary("model", "10%", 0, "s", saved=[nats, -nats]) for nats in (0.5, 2.0))
    shown = ShownDocument("doc", "aa bb", "r", 9.0, [(0, 2), (2, 5)], [(0, 5)], [pale, strong])
    for summary in (pale, strong):
        # of the sizes 0.5, 0.5, 2, 2
        assert shades(heat_map(shown, summary).axes[0]).get_clim() == (-2.0, 2.0)
    assert unpacked(packed(shown))["limit"] == 2.0


def saving(*rows: Sequence[float] | None) -> ShownDocument:
    """A document of as many spans as nats saved, with a summary for each row of them."""
    summaries = [ShownSummary("a", "5%", number, "s", saved=row) for number, row in enumerate(rows)]
    return ShownDocument("t", "x" * 200, "r", 1.0, [], [], summaries)


def test_the_limit_of_shades_passes_over_the_rarest_of_all_summaries() -> None:
    rising = [float(number) for number in range(101)]
    assert shade_limit(saving(rising)) == 98.0
    # sizes 0, 0, 1, 1, ..., 100, 100: place 0.98 * 201 = 196.98 lies between two 98
    assert shade_limit(saving(rising, None, [-number for number in rising])) == 98.0
    # among twice as many sizes, half of them 0, 0.98 * 201 = 196.98 is 0.98 of the way from 95 to 96
    assert shade_limit(saving(rising, [0.0] * 101)) == pytest.approx(95.98, abs=1e-12)
    assert shade_limit(saving([1.0, math.nan, math.inf])) == 1.0


def test_noise_is_not_shaded_like_savings() -> None:
    assert [shade_limit(saving(*rows)) for rows in ((), (None,), ([],), ([0.02, -0.05],))] == [0.1] * 4


def test_copied_spans_are_underlined() -> None:
    axes = drawn("aa bb cc", [(0, 2), (2, 5), (5, 8)], [1.0, 1.0, 1.0], [False, True, False]).axes[0]
    assert underlined(axes) == [(2, 5)]


def test_a_span_over_the_end_of_a_line_is_shaded_on_both() -> None:
    text = "x" * 98 + " yyy zzz"  # 100 columns: the second word goes to the next line
    axes = drawn(text, [(0, 98), (98, 106)], [1.0, 2.0]).axes[0]
    assert boxes(axes) == [(0, 98), (0, 7)]  # the space that is left at the line's end is not
    written = {(text.get_position()[0], text.get_text()) for text in axes.texts}
    assert {(0, "x" * 98), (0, "yyy"), (4, "zzz")} <= written


def test_what_is_said_above_the_document() -> None:
    said = [text.get_text() for text in drawn("a", [(0, 1)], [1.0]).axes[0].texts]
    assert said[:3] == [
        "doc",
        "model  ·  budget 10%  ·  SQUISH 0.1234  ·  SQUISH-novel -0.0100  ·  25% copied",
        "short",
    ]


def test_the_text_is_as_wide_as_its_cells() -> None:
    figure = drawn("m" * 100, [(0, 100)], [1.0])
    axes = figure.axes[0]
    (word,) = [text for text in axes.texts if text.get_text() == "m" * 100]
    cells = axes.get_window_extent().width
    with drawing():
        extent = word.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert extent.width == pytest.approx(cells, rel=0.01)


def test_any_text_is_drawn_without_a_warning() -> None:
    text = "$x^2$ \U0001f984 漢字 e\u0301\x00\u202e <b>\r\n\n\tend\ud800"
    figure = drawn(text, [(place, place + 1) for place in range(len(text))], [0.5] * len(text))
    assert {"$x^2$", "<b>"} <= {found.get_text() for found in figure.axes[0].texts}
    assert "<b>" not in themed_svg(figure)


def test_long_documents_are_cut_and_say_so() -> None:
    for text, shown in (("word " * 2000, 6000), ("\n" * 500, 150)):
        figure = drawn(text, [(place, place + 5) for place in range(0, len(text), 5)], [1.0] * (len(text) // 5))
        heading = f"The document (the first {shown:,} of {len(text):,} characters)"
        assert heading in [found.get_text() for found in figure.axes[0].texts]
        assert figure.get_figheight() < 40


def test_a_summary_that_was_not_measured_has_no_map() -> None:
    shown = document()
    with pytest.raises(ValueError, match="measured"):
        heat_map(shown, shown.summaries[2])


def test_as_many_scores_are_written_as_the_line_holds() -> None:
    def line(**scores: float) -> str:
        summary = ShownSummary("model", "10%", 0, "s", "", scores, 0.5, 0.25, [1.0])
        figure = heat_map(ShownDocument("doc", "a", "r", 9.0, [(0, 1)], [(0, 1)], [summary]), summary)
        (found,) = [text.get_text() for text in figure.axes[0].texts if "budget 10%" in text.get_text()]
        return found

    assert line(squish=0.1234, novel=-0.01, fair=0.5) == (
        "model  ·  budget 10%  ·  SQUISH 0.1234  ·  SQUISH-novel -0.0100  ·  fair 0.5000  ·  25% copied"
    )
    many = line(squish=0.1234, novel=-0.01, **{f"measure {i}": 0.5 for i in range(9)})
    assert "measure 0 0.5000" in many
    assert "measure 2 0.5000" not in many
    assert many.endswith("25% copied")


def test_the_best_summary_by_the_leaderboards_score_is_chosen() -> None:
    def summary(contender: str, squish: float, novel: float, verdict: str = "") -> ShownSummary:
        return ShownSummary(
            contender, "10%", 0, contender, verdict, {"squish": squish, "novel": novel}, 1.0, 0.0, [1.0]
        )

    summaries = [summary("a", 0.2, 0.1), summary("b", 0.1, 0.2), summary("c", 0.9, 0.9, "over the budget")]
    shown = ShownDocument("doc", "x", "r", 9.0, [(0, 1)], [(0, 1)], summaries)
    unmeasured = replace(shown, summaries=[ShownSummary("d", "10%", 0, None, "failed")])
    of = replace(findings(), documents=lambda: iter([unmeasured, shown, shown, shown]))
    by_novel = replace(of, board=replace(of.board, rank_by="novel"))
    for asked, best in ((of, "a"), (by_novel, "b")):
        maps = [(chart, figure) for chart, figure in charts(asked) if chart.kind == "heat-map"]
        # the document's place, as the page numbers it; of the first three
        assert [chart.name for chart, _ in maps] == ["heat-map-2", "heat-map-3"]
        assert [figure.axes[0].texts[2].get_text() for _, figure in maps] == [best, best]
