"""The resistance to attacks, by figures worked out by hand."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest
import torch

from squish_pl.benchmark.leaderboard import Row
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task
from squish_pl.benchmark.resistance import (
    Resistance,
    ResistanceTable,
    mean_over_attacks,
    mean_shares,
    resistance,
)
from squish_pl.benchmark.resistance_tables import print_resistance, resistance_csv, resistance_markdown
from squish_pl.benchmark.scores import scores_of
from squish_pl.score.bootstrap import Estimate, bootstrap_interval
from squish_pl.score.measures import Positive, Support
from squish_pl.types import Document

WRITTEN, FAILED = Answer(outcome=Outcome.WRITTEN, summary="s"), Answer(outcome=Outcome.FAILED, reason="none")
UNPARSABLE = Answer(outcome=Outcome.UNPARSABLE)


def row(
    contender: str,
    document: int,
    squish: float | None,
    novel: float = 0.0,
    within: bool = True,
    budget: str = "20%",
    reference: str = "r",
    sample: int = 0,
) -> Row:
    task = Task(Document(f"text {document}"), budget, sample)
    is_attack = contender.startswith("attack")
    if squish is None:
        return Row(contender, task, FAILED, is_attack=is_attack)
    record = ScoreRecord(squish, novel, within, 0.5, 0.0, 100.0)
    return Row(contender, task, WRITTEN, {reference: record}, is_attack=is_attack)


def table(rows: list[Row], references: list[str] | None = None) -> ResistanceTable:
    found = resistance(rows, references or ["r"], "good")
    assert found is not None
    return found


def test_wins_ties_and_losses() -> None:
    rows = [row("good", i, 0.3, novel) for i, novel in enumerate((0.1, 0.2, 0.3, 0.4))]
    rows += [row("attack", i, squish, 0.2) for i, squish in enumerate((0.2, 0.3, 0.4, 0.1))]
    squish, novel = table(rows).lines
    assert (squish.score, squish.attack, squish.budget, squish.reference) == ("squish", "attack", "20%", "r")
    # above, tied, below, above; novel: below, tied, above, above. In the order of the documents' hashes.
    assert squish.share.mean == novel.share.mean == (1 + 0.5 + 0 + 1) / 4
    assert squish.documents == novel.documents == 4
    hashes = sorted((row("good", i, 0.0).task.document_hash, i) for i in range(4))
    wins = torch.tensor([(1.0, 0.5, 0.0, 1.0)[i] for _, i in hashes])
    assert (squish.share.low, squish.share.high) == bootstrap_interval(wins)


def test_only_documents_that_both_have() -> None:
    rows = [row("good", 0, 0.3), row("good", 1, None), row("good", 2, 0.3)]
    rows += [row("attack", 0, 0.4), row("attack", 1, 0.1), row("attack", 2, None)]
    rows += [row("attack 2", 3, 0.4), row("attack 3", 2, 0.1)]
    lines = [line for line in table(rows).lines if line.score == "squish"]
    assert [(line.attack, line.documents) for line in lines] == [("attack", 1), ("attack 2", 0), ("attack 3", 1)]
    assert lines[0].share.mean == 0
    assert math.isnan(lines[0].share.low)
    assert math.isnan(lines[1].share.mean)
    assert lines[2].share.mean == 1
    assert mean_over_attacks(lines, "squish") == 0.5


def test_a_good_summary_over_its_budget_counts_0() -> None:
    rows = [row("good", 0, 0.9, 0.9, within=False), row("attack", 0, 0.1, 0.0)]
    squish, novel = table(rows).lines
    assert (squish.share.mean, novel.share.mean) == (0, 0.5)  # below, and a tie of zeros
    unparsable = Row("good", Task(Document("text 0"), "20%"), UNPARSABLE)
    squish, _ = table([unparsable, row("attack", 0, -0.1)]).lines
    assert squish.share.mean == 1


def test_samples_are_averaged_first() -> None:
    rows = [row("good", 0, 0.1), row("good", 0, 0.5, sample=1), row("attack", 0, 0.2)]
    assert table(rows).lines[0].share.mean == 1  # 0.3 above 0.2: one document, not two


def both(contender: str, budget: str, r: float, q: float) -> Row:
    """A summary under two references."""
    one = row(contender, 0, r, budget=budget)
    return replace(one, scores=dict(one.scores) | row(contender, 0, q, reference="q").scores)


def test_budgets_and_references_stand_by_themselves_and_references_combined() -> None:
    rows = []
    for budget, good in (("10%", 0.1), ("20%", 0.3)):
        rows += [both("good", budget, good, good), both("attack", budget, 0.2, 0.0)]
    found = table(rows, ["r", "q"])
    shares = {(*key, line.score): line.share.mean for key, own in found.groups().items() for line in own}
    assert {key: share for key, share in shares.items() if key[2] == "squish"} == {
        ("10%", "r", "squish"): 0,
        ("10%", "q", "squish"): 1,
        ("10%", "mean of references", "squish"): 0.5,  # 0.1 and 0.1
        ("20%", "r", "squish"): 1,
        ("20%", "q", "squish"): 1,
        ("20%", "mean of references", "squish"): 1,
    }
    # the combined ones alone
    assert mean_shares(found) == {"squish": {"attack": 0.75}, "novel": {"attack": 0.5}}
    lowest = resistance(rows, ["r", "q"], "good", "min")
    assert lowest is not None
    assert mean_shares(lowest) == {"squish": {"attack": 1.0}, "novel": {"attack": 0.5}}  # 0.1 above 0
    assert mean_shares(table(rows, ["r"])) == {"squish": {"attack": 0.5}, "novel": {"attack": 0.5}}


def test_measures_are_lines_of_their_own() -> None:
    scores = scores_of([Positive(), Support()])

    def measured(contender: str, document: int, positive: float, support: float, within: bool = True) -> Row:
        of = row(contender, document, 0.3, within=within)
        own = {"positive": positive, "support": support}
        return replace(of, scores={"r": replace(of.scores["r"], measures=own)})

    rows = [measured("good", i, 0.1, -2.0, within=i != 2) for i in range(3)]
    rows += [
        measured("attack", i, positive, support) for i, (positive, support) in enumerate(((0.0, -1.0), (0.2, -3.0)))
    ]
    rows += [
        measured("attack", 2, -0.5, -1.0),
        Row("attack 2", Task(Document("text 0"), "20%"), UNPARSABLE, is_attack=True),
    ]
    found = resistance(rows, ["r"], "good", scores=scores)
    assert found is not None
    lines = {(line.score, line.attack): line for line in found.lines}
    assert [score for score, attack in lines if attack == "attack"] == ["squish", "novel", "positive", "support"]
    # 0.1 above 0, below 0.2; the third, over the budget, is worth 0, which is above -0.5
    assert lines["positive", "attack"].share.mean == pytest.approx(2 / 3)
    # -2 below -1, above -3; the third has no value
    assert (lines["support", "attack"].share.mean, lines["support", "attack"].documents) == (0.5, 2)
    assert lines["positive", "attack 2"].share.mean == 1
    assert lines["support", "attack 2"].documents == 0
    assert mean_shares(found)["support"] == {"attack": 0.5, "attack 2": None}
    assert "| attack | SQUISH | SQUISH-novel | positive | support | documents |" in resistance_markdown(found)
    assert "| 100% | – | 0 to 1 |" in resistance_markdown(found)
    assert "| 50% [0%, 100%] | 2 to 3 |" in resistance_markdown(found)


def test_nothing_without_attacks_and_nothing_known_without_documents() -> None:
    assert resistance([row("good", 0, 0.3), row("other", 0, 0.4)], ["r"], "good") is None
    nothing = table([row("attack", 0, 0.4)])
    assert mean_shares(nothing) == {"squish": {"attack": None}, "novel": {"attack": None}}
    assert mean_over_attacks(nothing.lines, "squish") is None


def example() -> ResistanceTable:
    share, nothing = Estimate(0.5, 0.25, 0.75), Estimate(math.nan, math.nan, math.nan)
    return ResistanceTable(
        "good|one",
        [
            Resistance("20%", "r", "squish", "a|[b]b[/b]", share, 8),
            Resistance("20%", "r", "squish", "two", Estimate(1.0, 1.0, 1.0), 8),
            Resistance("20%", "r", "novel", "a|[b]b[/b]", Estimate(0.1, math.nan, math.nan), 8),
            Resistance("20%", "r", "novel", "two", nothing, 0),
        ],
    )


def test_tables_hold_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    print_resistance(example())
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    printed = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["a|[b]b[/b]", "50% [25%, 75%]", "10%", "8"] in printed
    assert ["mean over attacks", "75%", "10%"] in printed
    assert "| two | 100% [100%, 100%] | – | 0 to 8 |" in resistance_markdown(example())
    assert "which good&#124;one score above the attack [95 %" in resistance_markdown(example())
    assert "| a&#124;&#91;b&#93;b&#91;/b&#93; | 50% [25%, 75%] | 10% | 8 |" in resistance_markdown(example())
    records = list(csv.DictReader(io.StringIO(resistance_csv(example()))))
    assert records[0] == {
        "budget": "20%",
        "reference": "r",
        "score": "squish",
        "attack": "a|[b]b[/b]",
        "share": "0.5",
        "share_low": "0.25",
        "share_high": "0.75",
        "documents": "8",
    }
    assert [records[3][name] for name in ("share", "share_low", "documents")] == ["", "", "0"]
