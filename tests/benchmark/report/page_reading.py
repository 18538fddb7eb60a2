"""Reads the page in a browser, and uses it as a person would."""

from __future__ import annotations

import math
from typing import Any

from squish_pl.benchmark.findings import ShownDocument, ShownSummary
from squish_pl.benchmark.report.page_text import number


def choose(page: Any, group: str, value: str) -> None:
    """Clicks a choice as a person would."""
    page.locator(f'input[name="{group}"][value="{value}"]').locator("xpath=..").click()


def go_to(page: Any, title: str) -> None:
    page.wait_for_function("title => document.getElementById('title').textContent === title", arg=title)


def the_one(document: ShownDocument, contender: str, budget: str, sample: int = 0) -> ShownSummary:
    [found] = [s for s in document.summaries if (s.contender, s.budget, s.sample) == (contender, budget, sample)]
    return found


def figures(page: Any) -> dict[str, str]:
    lines = page.locator("#figures > div").all()
    return {line.locator("dt").inner_text(): line.locator("dd").inner_text() for line in lines}


def check(page: Any, document: ShownDocument, summary: ShownSummary) -> None:
    """Everything shown of a measured summary is the findings'."""
    assert summary.saved is not None
    assert summary.copied_spans is not None
    assert page.locator("#contenders label:has(:checked) bdi").text_content() == summary.contender
    assert page.locator("#contenders label:has(:checked) .value").text_content() == number(summary.scores["squish"])
    assert page.locator("#summary").text_content() == summary.text
    assert not page.locator("#verdict").is_visible()
    assert figures(page) == {
        "SQUISH": number(summary.scores["squish"]),
        "SQUISH-novel": number(summary.scores["novel"]),
        "Nats saved": f"{number(math.fsum(summary.saved), 2)} of {number(document.information, 2)}",
        "Length used": "97 %",
        "Copied": "30 %",
    }
    sums = page.locator("#sentences .nats").all_text_contents()
    assert sums == [number(nats, 2, signed=True) for nats in document.sentence_savings(summary)]
    text = page.locator("#text")
    assert text.text_content() == document.text
    units = [round(100 * nats) for nats in summary.saved]
    assert text.locator(".helps").count() == sum(unit > 0 for unit in units)
    assert text.locator(".hurts").count() == sum(unit < 0 for unit in units)
    assert text.locator(".sentence").count() == len(document.sentences)
    underlined = text.locator(".copied").all_text_contents()
    assert underlined == [
        document.text[start:end]
        for (start, end), copied in zip(document.spans, summary.copied_spans, strict=True)
        if copied
    ]
    titles = text.locator(".sentence > span").evaluate_all("spans => spans.map((span) => span.title)")
    assert titles == [
        f"{number(unit / 100, 2, signed=True)} nats{', copied' if copied else ''}"
        for unit, copied in zip(units, summary.copied_spans, strict=True)
    ]
