"""The leaderboard, by figures worked out by hand."""

from __future__ import annotations

import csv
import io
import math
import random
import re
from dataclasses import replace

import pytest
import torch

from squish_pl.benchmark.findings import Usage
from squish_pl.benchmark.leaderboard import Leaderboard, Row, Standing, combined_name, leaderboard
from squish_pl.benchmark.leaderboard_tables import (
    print_leaderboard,
    print_published,
    print_usage,
    to_csv,
    to_markdown,
    to_records,
)
from squish_pl.benchmark.published import PublishedScore
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task
from squish_pl.score.bootstrap import bootstrap_interval
from squish_pl.types import Document

WRITTEN = Answer(outcome=Outcome.WRITTEN, summary="s")
UNPARSABLE = Answer(outcome=Outcome.UNPARSABLE)
FAILED = Answer(outcome=Outcome.FAILED, reason="busy")


def record(
    score: float, novel: float = 0.0, within: bool = True, length: float = 0.5, copied: float = 0.0
) -> ScoreRecord:
    return ScoreRecord(
        score=score, novel_score=novel, within_budget=within, length_used=length, copied=copied, information=100.0
    )


def row(
    contender: str, document: int, answer: Answer | None, sample: int = 0, budget: str = "10%", **scores: ScoreRecord
) -> Row:
    return Row(contender, Task(Document(f"text {document}"), budget, sample), answer, scores)


def scored(contender: str, document: int, score: float, sample: int = 0, budget: str = "10%") -> Row:
    return row(contender, document, WRITTEN, sample, budget, r=record(score))


def only(board: Leaderboard) -> Standing:
    (standing,) = board.standings
    return standing


def names(board: Leaderboard) -> list[str]:
    return [standing.contender for standing in board.standings]


def test_mean_over_documents_of_the_mean_over_samples() -> None:
    rows = [
        row("a", 0, WRITTEN, 0, r=record(0.1, 0.02, length=0.9, copied=0.2)),
        row("a", 0, WRITTEN, 1, r=record(0.3, 0.04, length=0.7, copied=0.4)),
        row("a", 0, WRITTEN, 2, r=record(0.2, 0.03, length=0.8, copied=0.9)),
        row("a", 1, WRITTEN, 0, r=record(0.6, 0.07, length=0.2, copied=0.1)),
    ]
    standing = only(leaderboard(rows, ["r"]))
    assert standing.squish.mean == pytest.approx((0.2 + 0.6) / 2, abs=1e-15)  # and not 1.2 / 4
    assert standing.novel.mean == pytest.approx((0.03 + 0.07) / 2, abs=1e-15)
    assert standing.length_used == pytest.approx((0.8 + 0.2) / 2, abs=1e-15)
    assert standing.copied == pytest.approx((0.5 + 0.1) / 2, abs=1e-15)
    assert (standing.rank, standing.documents, standing.coverage, standing.failed) == (1, 2, 1.0, 0)
    assert (standing.ahead, standing.resolved) == (None, None)


def test_what_counts_zero_and_what_is_left_out() -> None:
    rows = [
        row("a", 0, WRITTEN, 0, r=record(0.4, 0.2, length=0.6)),
        row("a", 0, UNPARSABLE, 1),
        row("a", 1, WRITTEN, 0, r=record(0.5, 0.5, within=False, length=1.4)),  # counts 0 whatever it says
        row("a", 1, FAILED, 1),
        row("a", 2, FAILED, 0),
        row("a", 2, None, 1),
        row("a", 3, WRITTEN, 0),  # not scored yet
        row("a", 3, WRITTEN, 1, r=record(0.8, 0.4, length=1.0)),
    ]
    standing = only(leaderboard(rows, ["r"]))
    # documents: (0.4 + 0) / 2, 0, -, 0.8
    assert standing.squish.mean == pytest.approx((0.2 + 0.0 + 0.8) / 3, abs=1e-15)
    assert standing.novel.mean == pytest.approx((0.1 + 0.0 + 0.4) / 3, abs=1e-15)
    assert standing.documents == 3
    assert standing.failed == 4
    assert standing.coverage == 0.5
    assert standing.unparsable == 0.25  # of the four answers
    assert standing.over_budget == 0.25
    assert standing.length_used == pytest.approx((0.6 + 1.4 + 1.0) / 3)  # of written ones alone


def test_a_budget_that_allows_nothing_has_no_length() -> None:
    nothing = record(0.0, within=False, length=math.inf)
    rows = [
        row("a", 0, WRITTEN, 0, r=record(0.2, length=0.4)),
        row("a", 0, WRITTEN, 1, r=record(0.2, length=0.8)),
        row("a", 1, WRITTEN, 0, r=nothing),
        row("a", 2, WRITTEN, 0, r=record(0.2, length=0.9)),
        row("a", 2, WRITTEN, 1, r=nothing),
    ]
    standing = only(leaderboard(rows, ["r"]))
    assert standing.length_used == pytest.approx((0.6 + 0.9) / 2, abs=1e-15)
    assert standing.squish.mean == pytest.approx((0.2 + 0 + 0.1) / 3, abs=1e-15)  # it counts 0 all the same
    assert math.isnan(only(leaderboard(rows[2:3], ["r"])).length_used)


def test_interval_is_the_bootstrap_over_documents_in_any_order_of_rows() -> None:
    rows = [scored("a", i, 0.01 * i * i, s) for i in range(8) for s in range(2)]
    standing = only(leaderboard(rows, ["r"]))
    by_hash = sorted(rows[::2], key=lambda r: r.task.document_hash)
    values = torch.tensor([r.scores["r"].score for r in by_hash], dtype=torch.float64)
    assert standing.squish == (pytest.approx(0.01 * 140 / 8), *bootstrap_interval(values))
    random.Random(0).shuffle(rows)
    assert only(leaderboard(rows, ["r"])) == standing


def test_one_document_has_no_interval() -> None:
    estimate = only(leaderboard([scored("a", 0, 0.3)], ["r"])).squish
    assert estimate.mean == 0.3
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_neighbours_are_compared_over_the_documents_both_have() -> None:
    rows = [scored("a", i, 0.5 + i) for i in range(10)] + [scored("b", i, 0.4 + i) for i in range(8)]
    rows += [row("b", i, FAILED) for i in (8, 9)]
    first, second = leaderboard(rows, ["r"]).standings
    assert (first.contender, second.contender) == ("a", "b")
    assert first.ahead is not None
    assert first.ahead == pytest.approx((0.1, 0.1, 0.1))  # while their means are 1.1 apart
    assert first.resolved is True
    assert (second.ahead, second.resolved) == (None, None)
    assert first.squish.low < second.squish.high  # the single intervals do not tell


def test_a_difference_that_changes_its_sign_is_not_resolved() -> None:
    rows = [scored("a", i, 0.3 if i % 2 else 0.1) for i in range(20)]
    rows += [scored("b", i, 0.19) for i in range(20)]
    first, _ = leaderboard(rows, ["r"]).standings
    assert first.ahead is not None
    assert first.ahead.mean == pytest.approx(0.01)
    assert first.ahead.low < 0 < first.ahead.high
    assert first.resolved is False


@pytest.mark.parametrize(("documents", "resolved"), [(5, False), (6, True)])
def test_few_documents_resolve_nothing(documents: int, resolved: bool) -> None:
    rows = [scored(name, i, score) for i in range(documents) for name, score in (("a", 0.2), ("b", 0.1))]
    assert leaderboard(rows, ["r"]).standings[0].resolved is resolved


def test_equals_and_strangers_are_not_resolved() -> None:
    rows = [scored(name, i, 0.1) for i in range(9) for name in "ab"]
    assert leaderboard(rows, ["r"]).standings[0].resolved is False
    strangers = [scored("a", i, 0.2) for i in range(9)] + [scored("b", i + 9, 0.1) for i in range(9)]
    first, _ = leaderboard(strangers, ["r"]).standings
    assert first.ahead is not None
    assert math.isnan(first.ahead.mean)
    assert first.resolved is False


def test_rank_by_either_score_and_those_without_any_last() -> None:
    rows = [
        row("failing", 0, FAILED),
        row("negative", 0, WRITTEN, r=record(-0.1, -0.1)),
        row("novel", 0, WRITTEN, r=record(0.1, 0.3)),
        row("copying", 0, WRITTEN, r=record(0.4, -0.2)),
    ]
    assert names(leaderboard(rows, ["r"])) == ["copying", "novel", "negative", "failing"]
    by_novel = leaderboard(rows, ["r"], rank_by="novel")
    assert names(by_novel) == ["novel", "negative", "copying", "failing"]
    assert [standing.rank for standing in by_novel.standings] == [1, 2, 3, 4]
    assert by_novel.standings[0].ahead is not None
    assert by_novel.standings[0].ahead.mean == pytest.approx(0.4)
    assert math.isnan(by_novel.standings[3].squish.mean)


def test_budgets_are_ranked_by_themselves() -> None:
    rows = [
        scored(n, 0, s, budget=b)
        for n, b, s in (("a", "5%", 0.1), ("b", "5%", 0.2), ("a", "10%", 0.4), ("b", "10%", 0.3))
    ]
    board = leaderboard(rows, ["r"])
    assert [(s.budget, s.rank, s.contender) for s in board.standings] == [
        ("5%", 1, "b"),
        ("5%", 2, "a"),
        ("10%", 1, "a"),
        ("10%", 2, "b"),
    ]


def test_several_references_by_themselves_and_averaged() -> None:
    rows = [
        row("a", 0, WRITTEN, r=record(0.2, 0.1, length=0.5, copied=0.2), q=record(0.4, 0.5, length=0.7, copied=0.4)),
        row("a", 1, WRITTEN, r=record(0.6, 0.2), q=record(0.9, 0.9, within=False)),
        row("a", 2, WRITTEN, r=record(0.7)),  # not scored by the second
        row("a", 3, UNPARSABLE),
    ]
    first, second, average = leaderboard(rows, ["r", "q"]).standings
    assert [s.reference for s in (first, second, average)] == ["r", "q", "mean of references"]
    assert first.squish.mean == pytest.approx((0.2 + 0.6 + 0.7 + 0) / 4)
    assert second.squish.mean == pytest.approx((0.4 + 0 + 0) / 3)
    assert average.squish.mean == pytest.approx((0.3 + 0.3 + 0) / 3)
    assert average.novel.mean == pytest.approx((0.3 + 0.1 + 0) / 3)
    assert average.over_budget == pytest.approx(0.5 / 3)
    assert average.length_used == pytest.approx((0.6 + 0.5) / 2)
    assert [s.coverage for s in (first, second, average)] == [1.0, 0.75, 0.75]


def test_of_several_references_the_lowest_score_may_count() -> None:
    rows = [
        row("a", 0, WRITTEN, r=record(0.2, 0.5, length=0.5, copied=0.2), q=record(0.4, 0.1, length=0.7, copied=0.4)),
        row("a", 1, WRITTEN, r=record(0.6, -0.2), q=record(0.9, 0.9)),
        row("a", 2, WRITTEN, r=record(0.6, 0.2), q=record(0.9, 0.9, within=False)),  # counts 0 under the second
        row("a", 3, WRITTEN, r=record(0.7)),  # not scored by the second
        row("a", 4, UNPARSABLE),
    ]
    first, second, lowest = leaderboard(rows, ["r", "q"], rule="min").standings
    assert [s.reference for s in (first, second, lowest)] == ["r", "q", "min of references"]
    assert lowest.squish.mean == pytest.approx((0.2 + 0.6 + 0 + 0) / 4, abs=1e-15)
    assert lowest.novel.mean == pytest.approx((0.1 - 0.2 + 0 + 0) / 4, abs=1e-15)
    # what is no score is the mean
    assert lowest.over_budget == pytest.approx(0.5 / 4)
    assert lowest.length_used == pytest.approx((0.6 + 0.5 + 0.5) / 3)
    assert lowest.copied == pytest.approx((0.3 + 0 + 0) / 3)
    assert lowest.coverage == 0.8
    assert (first, second) == tuple(leaderboard(rows, ["r", "q"]).standings[:2])  # each by itself is as it was


def test_the_rule_decides_the_ranking() -> None:
    rows = [
        row("uneven", 0, WRITTEN, r=record(0.5), q=record(0.1)),
        row("even", 0, WRITTEN, r=record(0.25), q=record(0.25)),
    ]
    for rule, order in (("mean", ["uneven", "even"]), ("min", ["even", "uneven"])):
        board = leaderboard(rows, ["r", "q"], rule=rule)  # type: ignore[arg-type]
        assert names(board)[4:] == order
        assert {s.reference for s in board.standings[4:]} == {combined_name(rule)}  # type: ignore[arg-type]


def test_the_mean_of_references_is_summed_exactly() -> None:
    scores = {name: record(score) for name, score in (("r", 1.0), ("q", 1e-16), ("p", 1e-16))}
    combined = leaderboard([row("a", 0, WRITTEN, **scores)], list(scores)).standings[-1]
    assert combined.squish.mean == 1.0000000000000002 / 3  # one by one, each of the small ones would be lost
    assert combined.squish.mean != 1 / 3


def test_the_originals_rules() -> None:
    rows = [scored("a", i, 0.2) for i in range(9)] + [row("a", 9, UNPARSABLE)]
    rows += [scored("b", i, 0.9) for i in range(8)]
    rows += [row("b", 8, WRITTEN, r=record(0.0, within=False)), row("b", 9, FAILED)]
    board = leaderboard(rows, ["r"], original_rules=True)
    standing = only(board)
    assert standing.contender == "a"
    assert standing.squish.mean == pytest.approx(0.2)  # and not 1.8 / 10
    assert (standing.documents, standing.coverage, standing.failed) == (9, 0.9, 0)
    assert standing.unparsable == pytest.approx(1 / 10)
    assert board.notes[0].startswith("By the original's rules: summaries that score 0 are dropped")
    assert "more than 80% of the documents" in board.notes[0]
    assert board.notes[0].endswith("were cut to int(0.7 * limit) before they were scored.")
    assert board.notes[1:] == ["Left out at 10% (r): b, 8 of 10 documents"]  # 80 % is not more than 80 %
    plain = leaderboard(rows, ["r"])
    assert plain.notes == []
    assert [s.squish.mean for s in plain.standings] == pytest.approx([7.2 / 9, 1.8 / 10])


def test_the_originals_rules_count_documents_and_not_samples() -> None:
    """Nine of ten documents are left, of each one sample in two."""
    zero = row("a", 0, WRITTEN, r=record(0.0))
    rows = [scored("a", i, 0.2) for i in range(9)]
    rows += [replace(zero, task=replace(scored("a", i, 0.2).task, sample=1)) for i in range(9)]
    rows += [replace(zero, task=replace(scored("a", 9, 0.2).task, sample=n)) for n in (0, 1)]
    assert only(leaderboard(rows, ["r"], original_rules=True)).coverage == 9 / 20


def _example(original_rules: bool = False) -> Leaderboard:
    rows = [scored("a|[b]b[/b]", i, 0.2) for i in range(6)]
    rows += [Row("lead", r.task, WRITTEN, {"r": record(0.1, -0.01, length=1.0, copied=1.0)}, True) for r in rows]
    rows += [row("failing", 0, FAILED)]
    return leaderboard(rows, ["r"], original_rules=original_rules)


def test_markdown() -> None:
    assert to_markdown(_example()) == (
        "**Budget 10%, reference r, ranked by SQUISH; means [95 % bootstrap interval]**\n\n"
        "| # | contender | SQUISH | SQUISH-novel | next is behind | over budget | unparsable | coverage | length used "
        "| copied |\n"
        "| ---: | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| 1 | a&#124;&#91;b&#93;b&#91;/b&#93; | 0.2000 [0.2000, 0.2000] | 0.0000 [0.0000, 0.0000] "
        "| by 0.1000, resolved | 0% | 0% | 100% | 50% | 0% |\n"
        "| 2 | lead (baseline) | 0.1000 [0.1000, 0.1000] | -0.0100 [-0.0100, -0.0100] |  | 0% | 0% | 100% "
        "| 100% | 100% |\n"
        "| 3 | failing | – | – |  | – | – | 0%, 1 failed | – | – |\n"
    )
    assert to_markdown(_example(original_rules=True)).endswith("Left out at 10% (r): failing, 0 of 1 documents\n")


def test_attacks_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    task = Task(Document("text"), "10%")
    rows = [
        Row("trick", task, WRITTEN, {"r": record(0.2)}, is_baseline=True, is_attack=True),
        Row("opening", task, WRITTEN, {"r": record(0.1)}, is_baseline=True),
        Row("model", task, WRITTEN, {"r": record(0.0)}),
    ]
    board = leaderboard(rows, ["r"])
    assert [standing.mark for standing in board.standings] == ["attack", "baseline", ""]
    assert "| 1 | trick (attack) |" in to_markdown(board)
    print_leaderboard(board)
    assert "(attack)" in capsys.readouterr().out
    assert [record["is_attack"] for record in to_records(board)] == [True, False, False]


def test_nothing_of_a_name_is_markdown_in_a_note() -> None:
    rows = [row("[x](http://e.org) *b* `c` <i>\n# d", 0, FAILED)]
    text = to_markdown(leaderboard(rows, ["r"], original_rules=True))
    assert text.splitlines()[-1] == (
        "Left out at 10% (r): &#91;x&#93;(http://e.org) &#42;b&#42; &#96;c&#96; &lt;i&gt; # d, 0 of 1 documents"
    )


def test_rich(capsys: pytest.CaptureFixture[str]) -> None:
    print_leaderboard(_example(original_rules=True))  # no terminal: 80 columns, of which rich would cut figures
    text = capsys.readouterr().out
    for part in (
        "a|[b]b[/b]",
        "[0.2000, 0.2000]",
        "[-0.0100, -0.0100]",
        "by 0.1000,",
        "100%",
        "SQUISH-novel",
        "copied",
    ):
        assert part in text
    assert "By the original's rules" in text
    assert "Left out at 10% (r): failing, 0 of 1 documents" in text


def test_csv_holds_every_figure_in_full() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(_example()))))
    assert [line["contender"] for line in lines] == ["a|[b]b[/b]", "lead", "failing"]
    assert float(lines[0]["squish"]) == pytest.approx(0.2, abs=1e-16)
    assert float(lines[0]["ahead"]) == pytest.approx(0.1, abs=1e-16)
    assert (lines[0]["resolved"], lines[1]["is_baseline"], lines[0]["rules"]) == ("True", "True", "benchmark")
    assert [lines[2][name] for name in ("squish", "squish_low", "ahead", "resolved", "copied")] == [""] * 5
    assert "original" in to_csv(_example(original_rules=True))
    assert to_csv(leaderboard([], ["r"])) == to_csv(_example()).split("\n")[0] + "\n"  # the head alone


def cells(text: str) -> list[list[str]]:
    """The cells of the lines, which at least two spaces part."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]


def test_usage_says_what_was_told_and_why_answers_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [("HTTP 500: [b]it broke[/b]", 4), ("refused", 2), ("an empty answer", 1)]
    reasons += [("no connection", 1), ("reset", 1)]
    print_usage(
        [
            Usage("a|[b]b[/b]", 1200, 5, 1234567, 89000, 0.12345, 61.26, reasons),
            Usage("free", 12, 0, 0, 0, 0.0, 0.5),  # a cost of nothing is known
            Usage("tokens", 3, 0, 10, 4, None, 1.0),
            Usage("opening", 12, 0, 0, 0, None, 0.1),  # which tells nothing
            Usage("down", 0, 12, 0, 0, None, 0.0, [("no connection", 12)]),
        ]
    )
    title, headings, _, *rest = cells(capsys.readouterr().out)
    assert title == ["What the answers took"]
    assert headings == ["contender", "answers", "tokens read", "tokens written", "US dollars", "seconds"]
    assert rest == [
        ["a|[b]b[/b]", "1,200", "1,234,567", "89,000", "0.1235", "61.3"],
        ["free", "12", "0", "0", "0.0000", "0.5"],
        ["tokens", "3", "10", "4", "–", "1.0"],
        ["a|[b]b[/b]: 5 of 1205 tasks failed and are left out of the means"],
        ["a|[b]b[/b]: 4 x HTTP 500: [b]it broke[/b]"],
        ["a|[b]b[/b]: 2 x refused"],
        ["a|[b]b[/b]: 1 x an empty answer"],
        ["a|[b]b[/b]: and 2 more"],
        ["down: 12 of 12 tasks failed and are left out of the means"],
        ["down: 12 x no connection"],
    ]


def test_usage_that_tells_nothing_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_usage([Usage("opening", 12, 0, 0, 0, None, 0.1)])
    print_usage([])
    assert capsys.readouterr().out == ""


def test_published_values_of_the_budgets_are_printed_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    scores = [
        PublishedScore("one", "instruct", "5%", 0.0244),
        PublishedScore("one", "instruct", "10%", 0.042),
        PublishedScore("one", "reasoning", "10%", 0.031),
        PublishedScore("[b]two[/b]", "instruct", "20%", 0.05),
    ]
    print_published(scores, ["10%", "5%"])
    text = capsys.readouterr().out
    first = text.splitlines()[0]  # and not wrapped to the table's columns
    assert first == "the original SQUISH project's published charts: measured elsewhere, under another template"
    assert [line for line in cells(text) if len(line) == 3] == [
        ["model", "SQUISH@5%", "SQUISH@10%"],
        ["one (instruct)", "0.024", "0.042"],
        ["one (reasoning)", "–", "0.031"],
    ]
    print_published(scores, ["20%"])
    assert cells(capsys.readouterr().out)[-1] == ["[b]two[/b] (instruct)", "0.050"]
    print_published(scores, ["64 tokens"])
    assert capsys.readouterr().out == ""
