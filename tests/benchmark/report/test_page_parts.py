"""What the page is made of: packed documents, bars, tables, figures as text."""

from __future__ import annotations

import math

import pytest
import report_examples as examples
from report_examples import unpacked

from squish_pl.benchmark.findings import ShownDocument, ShownSummary
from squish_pl.benchmark.report import page_text
from squish_pl.benchmark.report.page_documents import packed
from squish_pl.benchmark.report.page_views import Bar, Scale, published, views
from squish_pl.score.bootstrap import Estimate


def test_a_document_is_packed_whole() -> None:
    text = "😀 one two. Three"
    saved = [0.126, -1.004, 2.5, math.nan]
    sums = [0.126, -1.004, 2.5, 0.3]
    document = ShownDocument(
        title="t",
        text=text,
        reference="r",
        information=10.5,
        spans=[(0, 1), (1, 5), (5, 11), (11, 16)],
        sentences=[(0, 11), (11, 16)],
        summaries=[
            ShownSummary(
                "a", "5%", 0, "one", "", {"squish": 0.25, "novel": math.nan}, 0.5, 0.1, sums, [False, True, True, False]
            ),
            ShownSummary("b", "5%", 1, None, "failed: no answer"),
            ShownSummary("c", "5%", 0, "odd", "", {"squish": 0.1, "novel": 0.1}, 0.5, 0.1, saved, [False] * 4),
        ],
    )
    data = unpacked(packed(document))
    first, second, third = data.pop("summaries")
    # of the sizes 0.126, 0.126, 0.3, 1.004, 1.004, 2.5, 2.5 the 98th percentile is 2.5
    assert data == {
        "text": text,
        "information": 10.5,
        "ends": [1, 5, 11, 16],
        "sentences": [[0, 11], [11, 16]],
        "limit": 2.5,
    }
    assert first["spans"] == [13, -100, 250, 30]
    assert first["copies"] == "0110"
    assert first["saved"] == pytest.approx(1.922, abs=1e-12)
    assert first["by_sentence"] == pytest.approx([1.622, 0.3], abs=1e-12)
    assert (first["scores"], first["length"], first["copied"]) == ({"squish": 0.25, "novel": None}, 0.5, 0.1)
    assert second == {
        "contender": "b",
        "budget": "5%",
        "sample": 1,
        "text": None,
        "verdict": "failed: no answer",
        "scores": {},
        **dict.fromkeys(("length", "copied", "saved", "spans", "copies")),
        "by_sentence": [],
    }
    assert (third["spans"], third["saved"]) == ([13, -100, 250, None], None)
    assert third["by_sentence"] == [pytest.approx(1.622, abs=1e-12), None]


def test_an_empty_document_is_packed() -> None:
    empty = ShownDocument(
        "t", "", "r", 0.0, [], [], [ShownSummary("a", "5%", 0, "", "", {"squish": 0.0, "novel": 0.0}, 0.0, 0.0, [], [])]
    )
    data = unpacked(packed(empty))
    assert (data["ends"], data["summaries"][0]["saved"], data["summaries"][0]["by_sentence"]) == ([], 0.0, [])


def test_bars() -> None:
    scale = Scale.of([Estimate(0.2, 0.1, 0.3), Estimate(-0.05, -0.1, 0.0), examples.NOTHING])
    assert (scale.low, scale.high) == (-0.1, 0.3)
    # zero lies a quarter along: 1 + 98 / 4
    assert scale.bar(Estimate(0.2, 0.1, 0.3)) == Bar(25.5, 25.5, 49.0, (50.0, 99.0))
    assert scale.bar(Estimate(-0.05, -0.1, 0.0)) == Bar(25.5, 13.25, 12.25, (1.0, 25.5))
    assert scale.bar(Estimate(0.1, math.nan, math.nan)) == Bar(25.5, 25.5, 24.5, None)
    assert scale.bar(examples.NOTHING) is None
    assert Scale.of([Estimate(0.0, 0.0, 0.0)]).bar(Estimate(0.0, 0.0, 0.0)) == Bar(1.0, 1.0, 0.0, (1.0, 1.0))


def test_a_score_without_a_zero_is_a_mark_on_its_own_scale() -> None:
    scale = Scale.of([Estimate(-2.0, -3.0, -1.0), examples.NOTHING], has_zero=False)
    assert (scale.low, scale.high) == (-3.0, -1.0)
    assert scale.bar(Estimate(-2.0, -3.0, -1.0)) == Bar(None, 49.0, 2.0, (1.0, 99.0))
    assert scale.bar(examples.NOTHING) is None
    alone = Scale.of([Estimate(-2.0, math.nan, math.nan)], has_zero=False)
    assert alone.bar(Estimate(-2.0, math.nan, math.nan)) == Bar(None, 0.0, 2.0, None)


def test_measures_have_scales_of_their_own() -> None:
    plain, more = views(examples.findings())[0], views(examples.with_measures(examples.findings()))[0]
    assert list(more.scales) == ["squish", "novel", "positive", "support"]
    assert more.scales["squish"] == more.scales["novel"] == plain.scales["squish"] == Scale(-0.015, 0.11)
    assert more.scales["positive"] == Scale(0.0, 0.11)
    assert more.scales["support"] == Scale(-2.0 - 0.05 - 0.01, -2.0 - 0.05 + 0.01, has_zero=False)


def test_a_view_for_each_budget_and_reference() -> None:
    found = [(view.budget, view.reference, len(view.standings)) for view in views(examples.findings())]
    references = [*examples.REFERENCES, "mean of references"]
    assert found == [(budget, reference, 3) for budget in examples.BUDGETS for reference in references]


def test_published_values_by_mode_and_model() -> None:
    table = published(examples.findings().published)
    assert table.budgets == ["5%", "10%"]
    assert table.modes == {
        "reasoning": {"Model ": {"5%": 0.024, "10%": 0.042}},
        "instruct": {"Other": {"5%": None, "10%": 0.016}},
    }


def test_figures_as_text() -> None:
    assert [page_text.number(value) for value in (0.12345, -0.00001, -1.5, None, math.inf)] == [
        "0.1235",
        "0.0000",
        "−1.5000",
        "–",
        "–",
    ]
    assert [page_text.number(value, 1, signed=True) for value in (0.0, 2.0, -2.0)] == ["0.0", "+2.0", "−2.0"]
    assert [page_text.share(value) for value in (0.975, 1.0, math.nan)] == ["98%", "100%", "–"]
    assert [page_text.dollars(value) for value in (None, 0.0, 0.01234, 1234.5)] == [
        "–",
        "$0.00",
        "$0.0123",
        "$1,234.50",
    ]
    assert [page_text.duration(value) for value in (0.04, 59.94, 75.4, 3725.0, math.nan)] == [
        "0.0 s",
        "59.9 s",
        "1 min 15 s",
        "1 h 02 min",
        "–",
    ]
