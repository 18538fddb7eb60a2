"""The meta-evaluation's page in a browser: what is chosen is what is shown, and nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import meta_examples as examples
import pytest
from page_reading import choose
from report_examples import HOSTILE

from squish_pl.benchmark.report.meta_page import write_meta_page
from squish_pl.benchmark.report.page_text import printable

Open = Callable[..., Any]


@pytest.fixture
def open_page(open_file: Open, tmp_path: Path) -> Open:
    """Opens findings in a new page."""

    def open_findings(strange: str = "", **settings: Any) -> Any:
        write_meta_page(examples.findings(strange), tmp_path / "page.html")
        return open_file(tmp_path / "page.html", **settings)

    return open_findings


def captions(page: Any) -> list[str]:
    return [" ".join(text.split()) for text in page.locator("caption").locator("visible=true").all_inner_texts()]


def test_choosing(open_page: Open) -> None:
    page = open_page()
    assert captions(page) == [
        "one.jsonl, within documents: 6 documents, 18 summaries",
        "two.csv, within documents: 1 documents, 3 summaries",
    ]
    plots = page.locator(".plot").locator("visible=true")
    assert plots.locator("h3").all_inner_texts() == ["exact", "contrary"]
    assert "ρ 1.00" in plots.first.locator("figcaption").inner_text()
    assert page.locator("figure.systems h3").locator("visible=true").all_inner_texts() == [
        "exact and one.jsonl: relevance"
    ]
    choose(page, "kind", "system")
    assert captions(page) == ["one.jsonl, over systems: 6 documents, 18 summaries"]
    assert page.locator("#correlations .empty").locator("visible=true").count() == 1
    choose(page, "measure", "contrary")
    choose(page, "rated", "one.jsonl: fluency")
    assert page.locator("figure.systems h3").locator("visible=true").all_inner_texts() == [
        "contrary and one.jsonl: fluency"
    ]
    choose(page, "rated", "two.csv: overall")
    choose(page, "layout", "ranks")
    assert plots.locator("h3").all_inner_texts() == ["exact", "contrary"]
    assert plots.first.locator("text").all_text_contents() == ["lowest", "highest", "low", "high"]
    assert page.locator("#systems .empty").locator("visible=true").count() == 1
    page.emulate_media(media="print")
    assert page.locator(".plot").locator("visible=true").count() == 12  # all of them on paper


def test_without_a_script_everything_is_shown(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator(".plot").locator("visible=true").count() == 12
    assert page.locator(".plot .rated").locator("visible=true").count() == 12
    assert len(captions(page)) == 7
    assert page.locator("input").locator("visible=true").count() == 0


@pytest.mark.parametrize("strange", ["".join(HOSTILE[:4]), "".join(HOSTILE[4:])])
def test_nothing_foreign_runs(strange: str, open_page: Open) -> None:
    page = open_page(strange)
    assert page.locator(".plot h3").first.text_content() == f"exact{printable(strange)}"
    page.locator("input[name=rated]").nth(1).locator("xpath=..").click()
    assert page.locator(".plot").locator("visible=true").count() == 2
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_dark_and_light(open_page: Open) -> None:
    page = open_page(color_scheme="dark")

    def colours() -> list[str]:
        return page.evaluate(
            "[getComputedStyle(document.documentElement).backgroundColor,"
            " getComputedStyle(document.querySelector('.dots')).stroke]"
        )

    assert colours() == ["rgb(21, 24, 28)", "rgb(78, 167, 224)"]
    page.get_by_role("button", name="Light theme").click()
    assert colours() == ["rgb(253, 253, 251)", "rgb(0, 114, 178)"]


def test_a_narrow_screen_needs_no_scrolling_aside(open_page: Open) -> None:
    page = open_page("a_long_name_of_a_file_without_any_space_to_break_it")
    for width in (390, 700, 1000, 1100):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
