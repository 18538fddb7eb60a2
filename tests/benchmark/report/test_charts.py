"""Charts of the leaderboard, by figures worked out by hand."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from chart_examples import BUDGETS, REFERENCE, board, findings, small, standing
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.leaderboard import Standing, combined_name
from squish_pl.benchmark.published import MARK, PublishedScore
from squish_pl.benchmark.report.charts import Chart, charts, pictures, write_charts
from squish_pl.benchmark.report.lettering import drawable, fonts, shortened
from squish_pl.benchmark.report.themes import COLOURS, SURFACE, drawing, looks, marks_of
from squish_pl.benchmark.scores import scores_of
from squish_pl.errors import SquishError
from squish_pl.score.bootstrap import Estimate
from squish_pl.score.measures import Positive, Support

NOTHING = Estimate(math.nan, math.nan, math.nan)


def drawn(of: Findings, kind: str) -> list[tuple[Chart, Figure]]:
    return [(chart, figure) for chart, figure in charts(of) if chart.kind == kind]


def axes_of(of: Findings, kind: str) -> Axes:
    return drawn(of, kind)[0][1].axes[0]


def bars(axes: Axes) -> list[Any]:
    """Bars from the top down, hatches left out."""
    return sorted((bar for bar in axes.patches if bar.get_hatch() is None), key=lambda bar: bar.get_y())


def whiskers(axes: Axes) -> list[tuple[float, float]]:
    """Ends of the intervals from the top down."""
    lines = sorted((line for line in axes.lines if line.get_marker() == "|"), key=lambda line: line.get_ydata()[0])
    return [tuple(line.get_xdata()) for line in lines]


def words(artist: Any) -> list[str]:
    return [text.get_text() for text in artist.findobj(Text) if text.get_text()]


def test_bars_are_as_long_as_the_means_and_stand_in_rank_order() -> None:
    axes = axes_of(small(standing("a", 1, 0.10), standing("b", 2, 0.04)), "leaderboard")
    assert [bar.get_width() for bar in bars(axes)] == [0.10, 0.05, 0.04, 0.02]  # SQUISH, then SQUISH-novel
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a   1", "b   2"]
    assert axes.get_ylim() == (1.5, -0.5)  # the first on top
    assert {"0.1000", "0.0500", "0.0400", "0.0200"} <= set(words(axes))


def test_whiskers_are_the_intervals() -> None:
    wide = Estimate(0.10, 0.07, 0.15)
    axes = axes_of(
        small(standing("a", 1, 0.10, scores={"squish": wide, "novel": Estimate(-0.02, -0.05, 0.01)})), "leaderboard"
    )
    assert whiskers(axes) == [(0.07, 0.15), (-0.05, 0.01)]
    assert [bar.get_width() for bar in bars(axes)] == [0.10, -0.02]
    assert "−0.0200" in words(axes)


def test_one_document_gives_a_bar_without_a_whisker() -> None:
    one = Estimate(0.1, math.nan, math.nan)
    axes = axes_of(small(standing("a", 1, 0.1, scores={"squish": one, "novel": one})), "leaderboard")
    assert [bar.get_width() for bar in bars(axes)] == [0.1, 0.1]
    assert whiskers(axes) == []


def test_only_baselines_are_hatched_and_named_so() -> None:
    axes = axes_of(small(standing("model", 1, 0.2), standing("opening", 2, 0.1, is_baseline=True)), "leaderboard")
    hatched = [bar for bar in axes.patches if bar.get_hatch()]
    assert [bar.get_width() for bar in hatched] == [0.1, 0.05]
    assert all(0.5 < bar.get_y() + bar.get_height() / 2 < 1.5 for bar in hatched)  # in the second row
    assert [label.get_text() for label in axes.get_yticklabels()] == ["model   1", "opening (baseline)   2"]


def test_attacks_are_hatched_and_named_so() -> None:
    of = small(
        standing("opening", 1, 0.2, is_baseline=True), standing("trick", 2, 0.1, is_baseline=True, is_attack=True)
    )
    axes = axes_of(of, "leaderboard")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["opening (baseline)   1", "trick (attack)   2"]
    assert marks_of(of.board.standings) == "baseline, attack"
    assert marks_of(of.board.standings[1:]) == "attack"
    assert marks_of([standing("model", 1, 0.2)]) == ""


def test_contenders_without_a_score_are_named_instead_of_drawn() -> None:
    of = small(standing("a", 1, 0.1), standing("broken", 2, math.nan, scores={"squish": NOTHING, "novel": NOTHING}))
    axes = axes_of(of, "leaderboard")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a   1"]
    assert axes.get_xlabel().splitlines()[1] == "Without any score, and so not shown: broken"
    assert len(axes_of(of, "scatter").collections) == 1


def test_a_group_without_any_score_has_no_chart() -> None:
    assert list(charts(small(standing("a", 1, math.nan, scores={"squish": NOTHING, "novel": NOTHING})))) == []
    assert list(charts(small())) == []


def test_neighbours_in_no_resolved_order_are_joined() -> None:
    axes = axes_of(
        small(standing("a", 1, 0.3, resolved=True), standing("b", 2, 0.2, resolved=False), standing("c", 3, 0.19)),
        "leaderboard",
    )
    (sign,) = [text for text in axes.texts if text.get_text() == "≈"]
    assert sign.get_position()[1] == 1.5  # between the second and the third row
    assert "≈  order not resolved" in words(axes.figure)
    resolved = axes_of(small(standing("a", 1, 0.3, resolved=True), standing("b", 2, 0.2)), "leaderboard")
    assert not any("≈" in text for text in words(resolved.figure))


def test_measures_have_panels_of_their_own() -> None:
    estimates = {"squish": Estimate(0.1, 0.09, 0.11), "novel": Estimate(0.05, 0.04, 0.06)}
    first = estimates | {"positive": Estimate(30.0, 20.0, 40.0), "support": Estimate(-2.0, -3.0, -1.0)}
    second = estimates | {"positive": Estimate(-10.0, -20.0, 0.0), "support": NOTHING}
    of = small(standing("a", 1, 0.1, scores=first), standing("b", 2, 0.1, scores=second))
    of = replace(of, board=replace(of.board, scores=scores_of([Positive(), Support()])))
    shares, positive, support = drawn(of, "leaderboard")[0][1].axes
    assert [bar.get_width() for bar in bars(shares)] == [0.1, 0.05, 0.1, 0.05]
    assert [bar.get_width() for bar in bars(positive)] == [30.0, -10.0]
    assert whiskers(positive) == [(20.0, 40.0), (-20.0, 0.0)]
    assert {"positive", "30.0000", "−10.0000"} <= set(words(positive))
    assert bars(support) == []  # nothing to begin at
    assert whiskers(support) == [(-3.0, -1.0)]
    assert {"support", "−2.0000"} <= set(words(support))
    assert [panel.get_ylim() for panel in (shares, positive, support)] == [(1.5, -0.5)] * 3


def test_each_score_has_a_panel_of_curves() -> None:
    def at(budget: str, score: float) -> Standing:
        scores = {"squish": score, "novel": score, "support": -score}
        return standing("a", 1, score, budget=budget, scores={k: Estimate(v, v, v) for k, v in scores.items()})

    of = small(at("5%", 0.1), at("10%", 0.3))
    of = replace(of, budgets=["5%", "10%"], board=replace(of.board, scores=scores_of([Support()])))
    squish, novel, support, unused = drawn(of, "curves")[0][1].axes
    assert [panel.get_title("left") for panel in (squish, novel, support)] == ["SQUISH", "SQUISH-novel", "support"]
    assert [line.get_ydata().tolist() for line in support.lines if line.get_label() == "a"] == [[-0.1, -0.3]]
    assert not unused.axison


def test_published_values_of_the_budget_are_ruled_and_marked() -> None:
    published = [
        PublishedScore("M", "instruct", "10%", 0.01),
        PublishedScore("N", "reasoning", "10%", 0.05),
        PublishedScore("O", "instruct", "10%", 0.02),
        PublishedScore("P", "instruct", "5%", 0.9),
    ]
    axes = axes_of(replace(small(standing("a", 1, 0.1)), published=published), "leaderboard")
    rules = [line for line in axes.lines if "p" in str(line.get_label()) or "median" in str(line.get_label())]
    assert [rule.get_xdata() for rule in rules] == [[0.05, 0.05], [0.02, 0.02]]
    legend = words(axes.figure.legends[0])
    assert "best of 3 published: 0.050 (N, reasoning)" in legend
    assert "their median: 0.020" in legend
    assert MARK in legend


def test_scatter_places_scores_and_grows_with_copying() -> None:
    of = small(
        standing("none", 1, 0.3, copied=0.0), standing("half", 2, 0.2, copied=0.5), standing("all", 3, 0.1, copied=1.0)
    )
    marks = {mark.get_label(): mark for mark in axes_of(of, "scatter").collections}
    assert {name: tuple(mark.get_offsets()[0]) for name, mark in marks.items()} == {
        "none": (0.3, 0.15),
        "half": (0.2, 0.1),
        "all": (0.1, 0.05),
    }
    areas = [marks[name].get_sizes()[0] for name in ("none", "half", "all")]
    assert areas[1] - areas[0] == areas[2] - areas[1] > 0


def test_baselines_are_hollow_in_scatters() -> None:
    of = small(standing("model", 1, 0.3), standing("opening", 2, 0.2, is_baseline=True))
    filled = {mark.get_label(): to_hex(mark.get_facecolor()[0]) for mark in axes_of(of, "scatter").collections}
    assert filled == {"model": COLOURS[0], "opening": SURFACE}


def test_a_contender_that_wrote_nothing_has_the_smallest_marker() -> None:
    of = small(standing("a", 1, 0.3, copied=0.0), standing("b", 2, 0.2, copied=math.nan))
    sizes = [mark.get_sizes()[0] for mark in axes_of(of, "scatter").collections]
    assert sizes[0] == sizes[1]


def test_names_cover_neither_each_other_nor_a_marker() -> None:
    near = [standing(f"contender {number}", number + 1, 0.1 + 0.002 * (number % 4)) for number in range(8)]
    for _, figure in [*drawn(findings(board(budgets=BUDGETS[::2])), "scatter"), *drawn(small(*near), "scatter")]:
        axes = figure.axes[0]
        renderer = FigureCanvasAgg(figure).get_renderer()
        with drawing():
            figure.draw_without_rendering()
            # an annotation's own extent counts the line that leads to it
            names = [Text.get_window_extent(text, renderer) for text in axes.texts]
        assert len(names) >= 7
        assert not any(one.overlaps(other) for one, other in combinations(names, 2))
        markers = [axes.transData.transform(mark.get_offsets()[0]) for mark in axes.collections]
        assert not any(name.contains(*marker) for name in names for marker in markers)
        assert all(axes.get_window_extent(renderer).containsx(x) for name in names for x in (name.x0, name.x1))


def test_curves_go_from_the_smallest_budget_up() -> None:
    of = small(
        standing("a", 1, 0.20, budget="20%"),
        standing("a", 1, 0.05, budget="5%"),
        standing("a", 1, 0.10, budget="10%"),
        standing("opening", 2, 0.15, budget="20%", is_baseline=True),
        standing("opening", 2, 0.01, budget="5%", is_baseline=True),
    )
    ((chart, figure),) = drawn(of, "curves")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["5%", "10%", "20%"]
    lines = {line.get_label(): line for line in left.lines if not str(line.get_label()).startswith("_")}
    assert list(lines["a"].get_ydata()) == [0.05, 0.10, 0.20]
    assert list(lines["opening (baseline)"].get_xdata()) == [0, 2]  # nothing made up at 10 %
    assert (lines["a"].get_linestyle(), lines["opening (baseline)"].get_linestyle()) == ("-", "--")
    novel = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert novel["a"] == [0.025, 0.05, 0.10]
    assert chart.budget is None


def test_curves_need_two_budgets_of_a_unit() -> None:
    def at(*budgets: str) -> list[tuple[Chart, Figure]]:
        return drawn(small(*(standing("a", 1, 0.1, budget=budget) for budget in budgets)), "curves")

    assert at("10%") == []
    assert at("10%", "64 tokens") == []
    ticks = [
        [label.get_text() for label in figure.axes[0].get_xticklabels()] for _, figure in at("64 tokens", "10%", "5%")
    ]
    assert ticks == [["5%", "10%"]]
    two = [chart for chart, _ in at("64 tokens", "10%", "5%", "32 tokens")]
    assert [chart.name for chart in two] == ["curves-pct-chars", "curves-tokens"]
    assert two[0].title != two[1].title


def test_a_contender_looks_the_same_in_every_chart() -> None:
    of = findings(board(budgets=("5%", "10%")))
    look = looks(of.board)
    assert list(look)[:2] == ["smollm2-360m, adapter best", "Qwen/Qwen3-1.7B-Base"]  # baselines come after
    assert [mark.colour for mark in look.values()] == list(COLOURS[:7])
    for _, figure in drawn(of, "scatter"):
        edges = {mark.get_label(): to_hex(mark.get_edgecolor()[0]) for mark in figure.axes[0].collections}
        assert edges == {name: mark.colour for name, mark in look.items()}
    ((_, curves),) = drawn(of, "curves")
    lines = {line.get_label(): line for line in curves.axes[0].lines}
    for mark in look.values():
        line = lines[mark.marked_label]
        assert (line.get_color(), line.get_marker()) == (mark.colour, mark.marker)


def test_twenty_contenders_are_told_apart() -> None:
    of = small(*(standing(f"model {number}", number + 1, 0.1, is_baseline=number % 3 == 0) for number in range(20)))
    found = list(looks(of.board).values())
    assert len({(mark.colour, mark.marker) for mark in found}) == 20
    assert {mark.line for mark in found[8:]}.isdisjoint(mark.line for mark in found[:8] if not mark.is_baseline)


def test_names_that_are_alike_when_shortened_stay_apart() -> None:
    ends = "x" * 20
    of = small(standing(f"{ends}-one-{ends}", 1, 0.2), standing(f"{ends}-two-{ends}", 2, 0.1))
    first, second = (mark.label for mark in looks(of.board).values())
    assert second == f"{first} (2)"


HOSTILE = [
    "cash $x^2$ and $y",
    "<script>alert(1)</script>",
    "\U0001f984 名 \x00\x1b[31m\u202eabc\ud800",
    "n" * 60,
    "  ",
]


def test_any_name_is_drawn_as_it_is_and_without_a_warning(tmp_path: Path) -> None:
    of = small(
        *(standing(name, rank, 0.1, budget="5%", reference=HOSTILE[2]) for rank, name in enumerate(HOSTILE, 1)),
        *(standing(name, rank, 0.2, budget="10%", reference=HOSTILE[2]) for rank, name in enumerate(HOSTILE, 1)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = write_charts(pictures(of), tmp_path)
    assert len(files) == 2 * 5
    for file in files[1::2]:
        ElementTree.parse(file)
    axes = axes_of(of, "leaderboard")
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:2] == ["cash $x^2$ and $y   1", "<script>alert(1)</script>   2"]
    assert labels[3] == "n" * 16 + "…" + "n" * 17 + "   4"
    assert {text.get_parse_math() for text in axes.figure.findobj(Text) if "$" in text.get_text()} == {False}


def test_drawable_text() -> None:
    assert drawable(" a\n\tb\x00\u202e\u200bc ") == "a bc"
    assert drawable("\ud800\U0010ffff") == "□□"
    assert drawable("Ünïcödé – ≈ “x”") == "Ünïcödé – ≈ “x”"
    assert shortened("0123456789", 7) == "012…789"
    assert shortened("\x00") == "□"


def test_charts_of_several_references_have_names_of_their_own() -> None:
    names = ["org/model A", "org/model-a", combined_name("mean")]
    of = replace(small(*(standing("a", 1, 0.1, reference=name) for name in names)), references=names[:2])
    assert [(chart.name, chart.reference) for chart, _ in drawn(of, "leaderboard")] == [
        ("leaderboard-10pct-org-model-a", "org/model A"),
        ("leaderboard-10pct-org-model-a-2", "org/model-a"),
        ("leaderboard-10pct-mean-of-references", combined_name("mean")),
    ]


def test_all_charts_in_order() -> None:
    found = [(chart.name, chart.kind, chart.budget) for chart, _ in charts(findings())]
    assert found == [
        *((f"leaderboard-{budget[:-1]}pct", "leaderboard", budget) for budget in BUDGETS),
        *((f"scatter-{budget[:-1]}pct", "scatter", budget) for budget in BUDGETS),
        ("curves", "curves", None),
        ("heat-map-1", "heat-map", None),
        ("heat-map-2", "heat-map", None),
    ]


def test_the_users_settings_neither_matter_nor_change() -> None:
    with matplotlib.rc_context({"text.usetex": True, "figure.facecolor": "black", "font.size": 30}):
        before = dict(matplotlib.rcParams)
        figure = drawn(small(standing("a", 1, 0.1)), "leaderboard")[0][1]
        assert dict(matplotlib.rcParams) == before
    assert to_hex(figure.get_facecolor()) == SURFACE
    assert {text.get_fontsize() for text in figure.axes[0].get_yticklabels()} == {9}
    assert not any(text.get_usetex() for text in figure.findobj(Text))


def test_without_matplotlib_a_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SquishError, match=r"pip install 'squish-pl\[benchmark\]'"), drawing():
        pass
    with pytest.raises(SquishError, match=r"pip install 'squish-pl\[benchmark\]'"):
        next(charts(small(standing("a", 1, 0.1, reference=REFERENCE))))
