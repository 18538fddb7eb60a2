"""Charts as elements of a page."""

from __future__ import annotations

import re
from functools import cache
from xml.etree import ElementTree

import pytest
from chart_examples import board, findings, small, standing
from matplotlib.figure import Figure
from matplotlib.text import Text

from squish_pl.benchmark.report.charts import charts
from squish_pl.benchmark.report.themed_svg import themed_svg
from squish_pl.benchmark.report.themes import LIGHT

SVG = "{http://www.w3.org/2000/svg}"
COLOUR = re.compile(r"(?<!url\()#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\(")


@cache
def examples() -> dict[str, tuple[Figure, str]]:
    """A chart of each kind."""
    of = findings(board(budgets=("5%", "10%")))
    return {chart.kind: (figure, themed_svg(figure)) for chart, figure in charts(of)}


def attributes(root: ElementTree.Element) -> list[str]:
    return [value for element in root.iter() for value in element.attrib.values()]


@pytest.mark.parametrize("kind", ["leaderboard", "scatter", "curves"])
def test_all_colours_are_the_themes_variables(kind: str) -> None:
    root = ElementTree.fromstring(examples()[kind][1])
    values = attributes(root)
    assert [value for value in values if COLOUR.search(value)] == []
    used = set(re.findall(r"var\((.*?)\)", " ".join(values)))
    assert {"--chart-ink", "--chart-faint", "--chart-surface", *(f"--chart-{number}" for number in range(1, 8))} <= used
    assert used <= set(LIGHT)
    assert not list(root.iter(f"{SVG}style"))  # it would hold for the whole page


@pytest.mark.parametrize("kind", ["leaderboard", "scatter", "curves"])
def test_ids_are_referred_to_and_never_used_twice(kind: str) -> None:
    figure, first = examples()[kind]
    second = themed_svg(figure)
    ids = [
        [element.get("id") for element in ElementTree.fromstring(svg).iter() if element.get("id")]
        for svg in (first, second)
    ]
    assert len(ids[0]) == len(ids[1]) > 0
    assert len(set(ids[0] + ids[1])) == 2 * len(ids[0])
    values = attributes(ElementTree.fromstring(second))
    pointed = {found for value in values for found in re.findall(r"url\(#(.+?)\)|^#(.+)", value)}
    assert {one or other for one, other in pointed} == set(ids[1])


def test_it_is_an_image_with_a_title_and_its_text_is_text() -> None:
    figure, svg = examples()["leaderboard"]
    said = figure.get_label()
    assert said == "Leaderboard: budget 10%, reference SmolLM2-135M"
    root = ElementTree.fromstring(svg)
    assert svg.startswith("<svg ")
    assert root.get("role") == "img"
    assert root[0].tag == f"{SVG}title"
    assert root[0].text == said
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert any("smollm2-360m, adapter best" in text for text in texts)
    assert said not in texts  # the page's heading says it
    titles = [text for text in figure.findobj(Text) if text.get_text() == said]
    assert [title.get_visible() for title in titles] == [True]  # and the figure keeps it


def test_names_stay_text_even_where_they_look_like_markup_or_colours() -> None:
    names = ["<script>alert(1)</script>", "#0072b2", "url(#a)", '"]]>&amp;']
    of = small(*(standing(name, rank, 0.1) for rank, name in enumerate(names, 1)))
    svg = themed_svg(next(charts(of))[1])
    root = ElementTree.fromstring(svg)
    texts = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    assert all(name in texts for name in names)
    assert not list(root.iter(f"{SVG}script"))
    assert "<script" not in svg
