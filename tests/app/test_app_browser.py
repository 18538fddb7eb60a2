"""The page in a browser: what is typed is what is scored, and nothing else happens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_serving import served

from squish_pl.app.workbench import Workbench
from squish_pl.benchmark.report.page_text import number
from squish_pl.errors import ModelError

TEXT = "The ferry left at dawn with 31 passengers. Snow fell on the pass all night, and the road was shut."
SUMMARY = "A ferry left at dawn."
HOSTILE = "<img src=x onerror='window.hacked=1'></textarea><script>window.hacked=2</script>&amp; \u202e {{ 7 * 7 }}"

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def address(bench: Workbench) -> Iterator[str]:
    with served(lambda: bench) as found:
        yield found


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Open]:
    """Opens the page; in the end nothing must have been complained of, and nothing asked of others."""
    happened: list[str] = []
    contexts = []

    def opened(at: str = address, **settings: Any) -> Any:
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings)))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        page.on("console", lambda message: happened.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: happened.append(f"error: {error}"))
        page.on("request", lambda request: None if request.url.startswith(at) else happened.append(request.url))
        page.on("dialog", lambda dialog: happened.append(f"dialog: {dialog.message}"))
        page.goto(at)
        return page

    yield opened
    for context in contexts:
        context.close()
    # a browser notes each answer that is no 200, which the page puts into a sentence
    assert [line for line in happened if "status of 400" not in line] == []


def fill(page: Any, document: str = TEXT, summary: str = SUMMARY, budget: str = "30%") -> None:
    page.get_by_label("Document", exact=True).fill(document)
    page.get_by_label("Budget: how long a summary may be").fill(budget)
    page.get_by_label("Your summary").fill(summary)


def figures(page: Any) -> dict[str, str]:
    lines = page.locator("#figures > div").all()
    return {line.locator("dt").inner_text(): line.locator("dd").inner_text() for line in lines}


def wait_for(page: Any, name: str, value: str) -> None:
    script = (
        "([name, value]) => [...document.querySelectorAll('#figures > div')]"
        ".some((line) => line.children[0].textContent === name && line.children[1].textContent === value)"
    )
    page.wait_for_function(script, arg=[name, value])


def test_scores_follow_what_is_typed(open_page: Open, bench: Workbench) -> None:
    page = open_page()
    fill(page)
    expected = bench.score(TEXT, SUMMARY, "30%")["summaries"][0]
    wait_for(page, "SQUISH", number(expected["scores"]["squish"]))
    found = figures(page)
    assert found["SQUISH-novel"] == number(expected["scores"]["novel"])
    assert found["fair"] == number(expected["scores"]["fair"])
    assert found["Length used"] == "72 %"
    assert page.locator("#text").text_content() == TEXT
    assert page.locator("#text .copied").all_text_contents() == list(" ferry left at dawn")
    assert page.locator("#text .helps").count() == sum((unit or 0) > 0 for unit in expected["spans"])
    assert page.locator("#sentences .nats").all_text_contents() == [
        number(nats, 2, signed=True) for nats in expected["by_sentence"]
    ]
    assert not page.locator("#verdict").is_visible()

    # another summary, another heat map
    page.get_by_label("Your summary").fill("Snow shut the pass.")
    other = bench.score(TEXT, "Snow shut the pass.", "30%")["summaries"][0]
    wait_for(page, "SQUISH", number(other["scores"]["squish"]))
    # a budget that it does not keep
    page.get_by_label("Budget: how long a summary may be").fill("5 chars")
    wait_for(page, "Length used", "380 %")
    assert page.locator("#verdict").inner_text() == "Does not count: over the budget of 5 characters."
    assert figures(page)["SQUISH"] == "0.0000"
    # nothing is left of what is gone
    page.get_by_label("Your summary").fill("")
    page.wait_for_function("() => document.getElementById('results').hidden")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_the_model_writes_before_and_after(open_page: Open, bench: Workbench) -> None:
    page = open_page()
    fill(page)
    page.get_by_role("button", name="Let the model write, before and after training").click()
    page.wait_for_function("() => document.querySelectorAll('#writers label').length === 3")
    page.wait_for_function("() => document.getElementById('status').hidden")
    names = page.locator("#writers b").all_text_contents()
    assert names == ["You", "Model before training", "Model after training"]
    before, after = (bench.write(TEXT, "30%", adapted)["text"] for adapted in (False, True))
    said = page.locator("#writers .said").evaluate_all("all => all.map((one) => one.textContent)")
    assert said == [SUMMARY, before, after]
    page.locator("#writers label").nth(2).click()
    shown = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", after.strip())
    assert page.locator("#summary").text_content() == shown
    # they were written of this document: with another one they are gone
    page.get_by_label("Document", exact=True).fill(TEXT + " More.")
    page.wait_for_function("() => document.querySelectorAll('#writers label').length === 1")
    assert page.locator("#writers b").all_text_contents() == ["You"]


def test_wrong_input_is_a_sentence(open_page: Open) -> None:
    page = open_page()
    fill(page, budget="much")
    problem = page.locator("#problem")
    problem.wait_for()
    assert problem.inner_text().startswith("Expected a budget such as")
    page.get_by_label("Budget: how long a summary may be").fill("50%")
    problem.wait_for(state="hidden")
    page.get_by_label("Document", exact=True).fill("long " * 300)
    problem.wait_for()
    assert "has 1,500 tokens, and this page takes 1,000" in problem.inner_text()
    assert "Traceback" not in page.content()


def test_files_are_opened(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Zoë left.\n", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    page = open_page()
    page.locator("#file").set_input_files(tmp_path / "text.txt")
    page.wait_for_function("() => document.getElementById('document').value === 'Zoë left.\\n'")
    page.locator("#file").set_input_files(tmp_path / "picture.png")
    page.locator("#problem").wait_for()
    assert page.locator("#problem").inner_text().startswith("picture.png is not a text in UTF-8")
    drop = """() => {
      const data = new DataTransfer();
      data.items.add(new File(["Dropped text."], "dropped.txt", { type: "text/plain" }));
      document.getElementById("own").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
    }"""
    page.evaluate(drop)
    page.wait_for_function("() => document.getElementById('document').value === 'Dropped text.'")


def test_nothing_foreign_runs(open_page: Open) -> None:
    page = open_page()
    fill(page, document=f"{HOSTILE} {TEXT}", summary=HOSTILE, budget="100%")
    page.wait_for_function("() => document.querySelector('#summary')?.textContent")
    assert page.locator("#summary").text_content() == HOSTILE
    assert page.locator("#text").text_content() == f"{HOSTILE} {TEXT}"
    assert page.locator("#writers .said").text_content() == HOSTILE
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_the_page_says_what_it_is_loading(open_page: Open) -> None:
    def fail() -> Any:
        import time

        time.sleep(1.5)
        raise ModelError("there is no <b>such</b> model")

    with served(fail, has_adapter=False) as address:
        page = open_page(address)
        page.wait_for_function("() => document.getElementById('status').textContent === 'Loading a tiny model …'")
        assert page.get_by_role("button", name="Let the model write").is_disabled()
        said = "there is no <b>such</b> model"
        page.wait_for_function("said => document.getElementById('status').textContent === said", arg=said)


@pytest.mark.parametrize("width", [390, 700, 1280])
def test_no_screen_needs_scrolling_aside(width: int, open_page: Open) -> None:
    page = open_page(viewport={"width": width, "height": 844})
    fill(page, document=TEXT + " " + "x" * 200)
    page.locator("#results").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_dark(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    colours = page.evaluate(
        "[document.documentElement, document.getElementById('document'), document.getElementById('own')]"
        ".map((one) => getComputedStyle(one).backgroundColor)"
    )
    for colour in colours:
        assert max(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 60
