"""Measures as scores of a leaderboard: its ranking, its means and its tables, by figures worked out by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import fields

import pytest

from squish_pl.benchmark.leaderboard import Leaderboard, Row, Standing, leaderboard
from squish_pl.benchmark.leaderboard_tables import print_leaderboard, to_csv, to_markdown, to_records
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task
from squish_pl.benchmark.results import result_lines
from squish_pl.benchmark.scores import OTHER_COLUMNS, SCORES, name_problems, rank_problems, scores_of
from squish_pl.score.ensemble import Rule
from squish_pl.score.measures import Measure, Novel, Positive, Squish, Support
from squish_pl.score.measures.base import score_title
from squish_pl.types import Document

WRITTEN, UNPARSABLE = Answer(outcome=Outcome.WRITTEN, summary="s"), Answer(outcome=Outcome.UNPARSABLE)
FOUR = scores_of([Positive(), Support()])


def record(score: float, positive: float, support: float, within: bool = True) -> ScoreRecord:
    return ScoreRecord(score, 0.01, within, 0.5, 0.0, 100.0, {"positive": positive, "support": support})


def row(contender: str, document: int, answer: Answer = WRITTEN, sample: int = 0, **scores: ScoreRecord) -> Row:
    return Row(contender, Task(Document(f"text {document}"), "10%", sample), answer, scores)


def board(rows: list[Row], rank_by: str = "squish", rule: Rule = "mean", *references: str) -> Leaderboard:
    return leaderboard(rows, references or ["r"], rank_by, rule=rule, scores=FOUR)


def test_a_run_has_two_scores_and_its_measures() -> None:
    assert [(score.key, score.title, score.has_zero) for score in FOUR] == [
        ("squish", "SQUISH", True),
        ("novel", "SQUISH-novel", True),
        ("positive", "positive", True),
        ("support", "support", False),
    ]
    assert scores_of([]) == SCORES
    assert [score_title(key) for key in ("novel", "novel 4")] == ["SQUISH-novel", "novel 4"]


def test_what_does_not_count_is_0_or_left_out() -> None:
    rows = [
        row("a", 0, sample=0, r=record(0.4, 0.6, -2.0)),
        row("a", 0, sample=1, r=record(0.2, 0.2, -3.0)),
        row("a", 1, r=record(0.5, 0.5, -1.0, within=False)),  # worth nothing, whatever it says
        row("a", 2, UNPARSABLE),
        row("a", 3, r=record(0.1, 0.0, -0.5)),
        row("a", 3, UNPARSABLE, sample=1),
    ]
    (standing,) = board(rows).standings
    # documents: 0.4, 0, 0, 0
    assert standing.scores["positive"].mean == pytest.approx(0.4 / 4, abs=1e-15)
    # documents: -2.5, -, -, -0.5
    assert standing.scores["support"].mean == pytest.approx(-1.5, abs=1e-15)
    assert (standing.documents, standing.coverage) == (4, 1.0)
    assert list(standing.scores) == ["squish", "novel", "positive", "support"]


def test_the_reader_is_told_what_is_left_out() -> None:
    (note,) = board([row("a", 0, r=record(0.1, 0.1, -1.0))]).notes
    assert note.startswith("support: summaries that are over the budget, empty or cannot be parsed are left out of its")
    assert leaderboard([], ["r"]).notes == []


def test_contenders_are_ranked_by_a_measure() -> None:
    rows = [row("a", i, r=record(0.3, 0.1, -1.0)) for i in range(6)]
    rows += [row("b", i, r=record(0.1, 0.4, -2.0)) for i in range(6)]
    assert [s.contender for s in board(rows).standings] == ["a", "b"]
    first, second = board(rows, "positive").standings
    assert (first.contender, second.contender) == ("b", "a")
    assert first.ahead is not None
    assert first.ahead.mean == pytest.approx(0.3)
    assert first.resolved is True
    assert "ranked by positive;" in to_markdown(board(rows, "positive"))


@pytest.mark.parametrize(
    ("rule", "positive", "support"), [("mean", 0.3 + 0.2 + 0.3, -1.5), ("min", 0.2 + 0.0 + 0.2, -2.0)]
)
def test_references_are_combined_by_the_rule(rule: Rule, positive: float, support: float) -> None:
    rows = [
        row("a", 0, r=record(0.3, 0.4, -1.0), q=record(0.5, 0.2, -2.0)),
        row("a", 1, r=record(0.3, 0.4, -1.0), q=record(0.5, 0.2, math.nan, within=False)),  # no value under the second
        row("a", 2, r=record(0.3, 0.4, math.nan), q=record(0.5, 0.2, -1.0)),
    ]
    combined = board(rows, "squish", rule, "r", "q").standings[-1]
    assert combined.scores["positive"].mean == pytest.approx(positive / 3, abs=1e-15)
    assert combined.scores["support"].mean == pytest.approx(support, abs=1e-15)


def example() -> Leaderboard:
    rows = [row("a", i, r=record(0.3, 0.2, -1.25)) for i in range(6)]
    return board([*rows, row("silent", 0, UNPARSABLE)], "positive")


def test_tables_hold_every_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert "| # | contender | SQUISH | SQUISH-novel | positive | support | next is behind |" in to_markdown(example())
    assert "| 0.2000 [0.2000, 0.2000] | -1.2500 [-1.2500, -1.2500] | by 0.2000" in to_markdown(example())
    assert "| 2 | silent | 0.0000 | 0.0000 | 0.0000 | – |" in to_markdown(example())
    lines = list(csv.DictReader(io.StringIO(to_csv(example()))))
    assert [float(lines[0][key]) for key in ("positive", "support", "support_low", "support_high")] == pytest.approx(
        [0.2, -1.25, -1.25, -1.25]
    )
    assert [lines[1][key] for key in ("support", "support_low", "support_high")] == [""] * 3
    assert to_records(example())[1]["support"] is None
    print_leaderboard(example())  # no terminal: 80 columns
    text = capsys.readouterr().out
    for part in ("positive", "support", "[-1.2500, -1.2500]", "ranked by positive", "support: summaries that are over"):
        assert part in text


def test_a_measures_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    class Odd(Measure):
        name = "[b]x|y[/b]"

        def __call__(self, evidence, batch):  # type: ignore[no-untyped-def]
            raise NotImplementedError

    scored = ScoreRecord(0.1, 0.1, True, 0.5, 0.0, 100.0, {Odd.name: 0.5})
    of = leaderboard([row("a", 0, r=scored)], ["r"], Odd.name, scores=scores_of([Odd()]))
    assert "ranked by &#91;b&#93;x&#124;y&#91;/b&#93;;" in to_markdown(of)
    assert "| &#91;b&#93;x&#124;y&#91;/b&#93; |" in to_markdown(of)
    print_leaderboard(of)
    assert "[b]x|y[/b]" in capsys.readouterr().out


def test_result_lines() -> None:
    rows = [
        row("a", 0, r=record(0.3, 0.2, -1.25)),
        row("a", 1, UNPARSABLE),
        row("a", 2),
        row("a", 3, r=record(0.0, 0.0, math.nan, within=False)),
        row("opening", 0, r=record(0.5, 0.7, -0.5)),
        row("opening", 3, r=record(0.5, 0.7, math.nan)),
    ]
    found = list(result_lines(rows, ["r"], FOUR, "opening"))
    keys = ("squish", "positive", "support", "lead", "lead_positive", "lead_support")
    assert [[line.get(key, "missing") for key in keys] for line in found] == [
        [0.3, 0.2, -1.25, 0.5, 0.7, -0.5],
        [0.0, 0.0, None, "missing", "missing", "missing"],
        [None, None, None, "missing", "missing", "missing"],
        [0.0, 0.0, None, 0.5, 0.7, None],
    ]
    json.dumps(found, allow_nan=False)


def test_names_that_would_hide_a_column() -> None:
    class Copied(Support):
        pass

    class Unnamed(Support):
        name = " "

    assert name_problems([Novel(), Support(), Positive()]) == []
    assert name_problems([Squish(), Copied(), Unnamed()]) == [
        "score.measures: 'squish' is a score of every run: leave it out",
        "score.measures: a measure cannot be called 'copied', as a column of the tables is",
        "score.measures: a measure cannot be called ' ': it needs a name",
    ]
    columns = {
        name for line in result_lines([row("a", 0, r=record(0.3, 0.2, -1.0))] * 2, ["r"], (), "b") for name in line
    }
    columns |= {field.name for field in fields(Standing)} - {"scores"} | {"rules", "lead"}
    assert columns <= OTHER_COLUMNS


def test_by_what_can_be_ranked() -> None:
    assert rank_problems("positive", FOUR) == rank_problems("novel", SCORES) == []
    assert rank_problems("fair", FOUR) == [
        "rank_by must be a score of the run, but is 'fair': there are 'squish', 'novel', 'positive'"
    ]
    (problem,) = rank_problems("support", FOUR)
    assert "'support' has no value for a summary that does not count" in problem
    assert problem.endswith("take one of 'squish', 'novel', 'positive'")
