"""The page in a browser: what is chosen is what is shown, and nothing else happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import report_examples as examples
from page_reading import check, choose, figures, go_to, the_one

from squish_pl.benchmark.findings import Findings, ShownSummary
from squish_pl.benchmark.report.charts import pictures
from squish_pl.benchmark.report.page import write_page
from squish_pl.benchmark.report.page_text import printable

Open = Callable[..., Any]


@pytest.fixture
def open_page(open_file: Open, tmp_path: Path) -> Open:
    """Opens findings in a new page."""

    def open_findings(findings: Findings | None, address: str = "", charts: bool = False, **settings: Any) -> Any:
        path = tmp_path / "page.html"
        if findings is not None:
            write_page(findings, pictures(findings) if charts else [], path)
        page = open_file(path, address, **settings)
        page.wait_for_selector("#reader:not([hidden])")
        return page

    return open_findings


def test_choosing(open_page: Open) -> None:
    page = open_page(examples.findings())
    document = examples.document(0)
    assert page.locator("#status").text_content() == "Document 1 of 3; 1,234.5 nats by itself"
    check(page, document, the_one(document, "small model", "5%"))
    marks = page.locator("#contenders label").filter(has=page.locator(".mark"))
    assert marks.locator("bdi").all_text_contents() == ["opening"]  # the one baseline
    assert marks.locator(".mark").all_inner_texts() == ["baseline"]

    choose(page, "contender", "large model")
    check(page, document, the_one(document, "large model", "5%"))
    copied = page.locator("#text .copied").first
    assert copied.evaluate("span => getComputedStyle(span).textDecorationLine") == "underline"
    assert page.locator("#pointed").text_content() == ""
    copied.hover()
    assert page.locator("#pointed").text_content() == f"“word0x0”: {copied.get_attribute('title')}"

    choose(page, "budget", "10%")
    check(page, document, the_one(document, "large model", "10%"))
    choose(page, "contender", "small model")
    choose(page, "sample", "1")
    check(page, document, the_one(document, "small model", "10%", sample=1))

    page.keyboard.press("j")
    go_to(page, "Document 2")
    document = examples.document(1)
    check(page, document, the_one(document, "small model", "10%", sample=1))
    choose(page, "reference", "second reference")
    page.wait_for_function("() => document.querySelector('[name=reference]:checked').value === 'second reference'")
    document = examples.document(1, "second reference")
    check(page, document, the_one(document, "small model", "10%", sample=1))

    page.get_by_role("button", name="Next").click()
    go_to(page, "Document 3")
    page.get_by_role("button", name="Next").click()  # there is none
    page.get_by_role("button", name="Previous").click()
    go_to(page, "Document 2")
    page.get_by_label("Document", exact=True).select_option("1")
    go_to(page, "Document 1")

    # the address holds it all
    page.reload()
    go_to(page, "Document 1")
    document = examples.document(0, "second reference")
    check(page, document, the_one(document, "small model", "10%", sample=1))


def test_an_address_opens_what_it_names(open_page: Open) -> None:
    chosen = {"doc": 3, "budget": "10%", "contender": "large model", "reference": "second reference"}
    page = open_page(examples.findings(), f"#{urlencode(chosen)}")
    document = examples.document(2, "second reference")
    check(page, document, the_one(document, "large model", "10%"))
    assert page.locator(".chosen caption").inner_text() == "Budget 10%, reference first reference, ranked by SQUISH"
    # what it does not know is passed over
    page = open_page(None, "#doc=99&budget=7%25&contender=nobody&sample=x&reference=none&board=none")
    document = examples.document(0)
    check(page, document, the_one(document, "small model", "5%"))


def test_what_does_not_count_has_no_heat_map(open_page: Open) -> None:
    document = examples.document(0)
    missing = ShownSummary("silent", "5%", 0, None, "failed: no answer within 60 s")
    document = replace(document, summaries=[*document.summaries, missing])
    page = open_page(replace(examples.findings(), documents=lambda: iter([document])))
    choose(page, "contender", "opening")
    assert page.locator("#verdict").inner_text() == "Does not count: over the budget. What it saves was not measured."
    assert page.locator("#summary").inner_text() == "opening at 5%, sample 0 "
    assert figures(page)["Nats saved"] == "–"
    assert figures(page)["Length used"] == "150 %"
    assert page.locator("#text").text_content() == document.text
    assert page.locator("#text span").count() == 0
    assert not page.locator("#legend").is_visible()
    assert not page.locator("#by-sentence").is_visible()
    choose(page, "contender", "silent")
    assert "failed: no answer within 60 s." in page.locator("#verdict").inner_text()
    assert not page.locator("#summary").is_visible()
    assert figures(page)["SQUISH"] == "–"


def test_the_leaderboard_follows_the_choices(open_page: Open) -> None:
    page = open_page(examples.findings())
    seen = page.locator("#leaderboard caption").locator("visible=true")
    assert seen.all_inner_texts() == ["Budget 5%, reference first reference, ranked by SQUISH"]
    choose(page, "board-reference", "mean of references")
    choose(page, "board-budget", "10%")
    assert seen.all_inner_texts() == ["Budget 10%, reference mean of references, ranked by SQUISH"]
    assert page.locator("input[name=budget]:checked").get_attribute("value") == "10%"
    page.emulate_media(media="print")
    assert len(seen.all_inner_texts()) == 6  # all of them on paper
    assert not page.locator("#theme").is_visible()


def test_without_a_script_all_tables_are_shown(open_page: Open, browser: Any, tmp_path: Path) -> None:
    open_page(examples.findings())
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert len(page.locator("#leaderboard caption").locator("visible=true").all()) == 6
    assert page.locator("noscript p").is_visible()
    assert not page.locator("#picker").is_visible()
    context.close()


def test_keys_and_focus(open_page: Open) -> None:
    page = open_page(examples.findings())
    page.keyboard.press("ArrowRight")
    go_to(page, "Document 2")
    page.keyboard.press("k")
    go_to(page, "Document 1")
    # letters typed into the search field are letters
    page.get_by_label("Find").fill("document 3")
    page.keyboard.press("j")
    page.get_by_label("Find").fill("document 3")
    assert page.locator("#document option").all_text_contents() == ["3. Document 3"]
    page.keyboard.press("Enter")
    go_to(page, "Document 3")
    # arrows move among the contenders, and the keyboard stays there
    page.locator("input[name=contender]:checked").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("input[name=contender]:checked").get_attribute("value") == "large model"
    assert page.evaluate("document.activeElement.value") == "large model"
    # a sentence's bar leads to the sentence
    page.locator("#sentences button").nth(1).click()
    assert page.evaluate("document.activeElement.textContent").startswith("word2x8 ")


@pytest.mark.parametrize("strange", ["".join(examples.HOSTILE[:4]), "".join(examples.HOSTILE[4:])])
def test_nothing_foreign_runs(strange: str, open_page: Open) -> None:
    page = open_page(examples.findings(strange=strange), charts=True)
    name = printable(strange)
    document = examples.document(
        0, examples.REFERENCES[0] + strange, [n + strange for n in examples.CONTENDERS], strange=strange
    )
    assert page.locator("#text").text_content() == printable(document.text)
    assert page.locator("#title").text_content() == printable(document.title)
    page.locator("#contenders label").nth(1).click()
    assert page.locator("#contenders label:has(:checked) bdi").text_content() == f"large model{name}"
    underlined = page.locator("#text .copied").all_text_contents()
    assert underlined[0] == f"{name}word0x0 "
    page.locator("#picker label").filter(has_text="second reference").click()
    page.wait_for_function("() => document.querySelectorAll('[name=reference]')[1].checked")
    assert page.locator("#summary").text_content() == f"large model{name} at 5%, sample 0 {name}"
    assert page.locator("h1").text_content() == f"A title {name}"
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1 + 6 + 1  # ours, the documents, the index


def test_dark_and_light(open_page: Open) -> None:
    page = open_page(examples.findings(), color_scheme="dark")

    def brightness(name: str) -> float:
        colour = page.evaluate(f"getComputedStyle(document.documentElement).{name}")
        return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3

    assert brightness("backgroundColor") < 40
    assert brightness("color") > 200
    page.get_by_role("button", name="Light theme").click()
    assert brightness("backgroundColor") > 240
    assert brightness("color") < 60
    page.reload()
    page.get_by_role("button", name="Dark theme").click()  # it was kept
    assert brightness("backgroundColor") < 40
    page.emulate_media(media="print")
    assert brightness("color") < 60


@pytest.mark.parametrize("width", [390, 1280])
def test_four_scores_fit_on_a_screen(width: int, open_page: Open) -> None:
    page = open_page(examples.with_measures(examples.findings()))
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('.chosen .wide'))")
    cells = page.locator(".chosen .board tbody tr").first.locator("td.score")
    assert cells.evaluate_all("cells => cells.map((cell) => cell.dataset.label)") == [
        "SQUISH",
        "SQUISH-novel",
        "positive",
        "support",
    ]
    assert cells.locator(".mean").all_inner_texts() == ["0.1000", "0.0100", "0.1000", "−2.0500"]
    assert cells.nth(3).locator(".zero").count() == 0
    assert [figures(page)[name] for name in ("positive", "support")] == ["0.1000", "−2.0500"]


def test_documents_list_the_score_of_the_ranking(open_page: Open) -> None:
    of = examples.with_measures(examples.findings())
    page = open_page(replace(of, board=replace(of.board, rank_by="positive")))
    assert page.locator("#contenders .value").all_text_contents() == ["0.1000"] * 3
    assert page.locator(".chosen caption").inner_text() == "Budget 5%, reference first reference, ranked by positive"


def test_a_narrow_screen_needs_no_scrolling_aside(open_page: Open) -> None:
    page = open_page(examples.findings(), charts=True)
    for width in (390, 700, 1000, 1100):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_three_hundred_documents(open_page: Open) -> None:
    names = [f"contender {number}" for number in range(6)]
    findings = examples.findings(references=examples.REFERENCES[:1], contenders=names)
    blank = examples.document(0, contenders=names, words=400)
    documents = [
        replace(blank, title=f"Document {n + 1}", text=blank.text.replace("word0", f"w{n:03}")) for n in range(300)
    ]
    start = time.perf_counter()
    page = open_page(replace(findings, documents=lambda: iter(documents)))
    assert time.perf_counter() - start < 30
    start = time.perf_counter()
    for number_ in range(2, 12):
        page.keyboard.press("j")
        go_to(page, f"Document {number_}")
        assert page.locator("#text .sentence > span").count() == 400
    choose(page, "contender", "contender 3")
    assert time.perf_counter() - start < 10
    page.get_by_label("Find").fill("document 300")
    page.keyboard.press("Enter")
    go_to(page, "Document 300")
    check(page, documents[299], the_one(documents[299], "contender 3", "5%"))
