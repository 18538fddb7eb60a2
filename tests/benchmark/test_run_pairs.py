"""Two runs laid beside each other, by stores made by hand."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from squish_pl.benchmark.contenders.given import GivenText
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task, text_hash
from squish_pl.benchmark.run_pairs import compare_runs, pairs_csv, stored_rows
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.cli.main import main
from squish_pl.errors import DataError
from squish_pl.score.bootstrap import bootstrap_interval
from squish_pl.types import Document

REFERENCE = "base tiny float32, tokenizer t"
Scored = Mapping[str, Sequence[float | str | None]]  #: by contender, of each document: a score, why none, or not asked


def record(score: float, within: bool = True, support: float = -1.0) -> ScoreRecord:
    return ScoreRecord(score, score / 2, within, 0.5, 0.0, 100.0, {"fair": score / 4, "support": support})


def make_store(path: Path, scored: Scored, reference: str = REFERENCE, budget: str = "10%") -> str:
    with Store(path) as store:
        for name, scores in scored.items():
            for i, score in enumerate(scores):
                task = Task(Document(f"document {i}"), budget)
                if score is None:
                    continue
                if score == "unparsable":
                    store.put_answers(GivenText(name, path.name), [(task, Answer(Outcome.UNPARSABLE))])
                    continue
                text = f"{name} {i} {path.name}"
                store.put_answers(GivenText(name, path.name), [(task, Answer(Outcome.WRITTEN, f" {text}\n"))])
                if score == "over":
                    store.put_scores(
                        reference, {ScoreKey.of(task, text): record(0.0, within=False, support=float("nan"))}
                    )
                elif not isinstance(score, str):
                    store.put_scores(reference, {ScoreKey.of(task, text): record(score)})
    return str(path)


def test_paired_by_document(tmp_path: Path) -> None:
    """Document 0 is in the first run alone, and 8 in the second; what is unparsable or over its budget counts 0."""
    a = make_store(tmp_path / "a.sqlite", {"m": [9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, None], "gone": [0.1] * 9})
    b = make_store(
        tmp_path / "b.sqlite", {"m": [None, 0.2, 0.3, "over", "unparsable", 0.7, 0.7, 0.9, 9], "new": [0.1] * 9}
    )
    compared = compare_runs(stored_rows(a), stored_rows(b))
    assert compared.notes == ["only in the first run: gone", "only in the second run: new"]
    pairs = {pair.score: pair for pair in compared.pairs}
    assert list(pairs) == ["fair", "novel", "squish", "support"]
    squish = pairs["squish"]
    differences = [0.1, 0.1, -0.3, -0.4, 0.2, 0.1, 0.2]
    assert (squish.contender, squish.budget, squish.documents) == ("m", "10%", 7)
    assert squish.first.mean == pytest.approx(2.8 / 7)
    assert squish.second.mean == pytest.approx(2.8 / 7)
    assert squish.ahead.mean == pytest.approx(0, abs=1e-15)
    assert squish.ahead.low < 0 < squish.ahead.high
    assert not squish.resolved
    # a document's hash stands for its text
    order = sorted(range(7), key=lambda i: text_hash(text_hash(f"document {i + 1}")))
    drawn = torch.tensor([differences[i] for i in order], dtype=torch.float64)
    assert squish.ahead[1:] == pytest.approx(bootstrap_interval(drawn), abs=1e-12)
    assert pairs["fair"].documents == 7
    assert pairs["support"].documents == 5  # it has no value for what does not count


def test_what_is_resolved(tmp_path: Path) -> None:
    a = make_store(tmp_path / "a.sqlite", {"m": [0.1] * 6, "few": [0.1] * 5})
    b = make_store(tmp_path / "b.sqlite", {"m": [0.2] * 6, "few": [0.2] * 5})
    pairs = [pair for pair in compare_runs(stored_rows(a), stored_rows(b)).pairs if pair.score == "squish"]
    assert {pair.contender: pair.resolved for pair in pairs} == {"m": True, "few": False}


def test_several_settings_under_one_name_are_told_apart(tmp_path: Path) -> None:
    store = Path(make_store(tmp_path / "a.sqlite", {"m": [0.1]}))
    with Store(store) as kept:
        task = Task(Document("document 0"), "10%")
        kept.put_answers(GivenText("m", "other"), [(task, Answer(Outcome.UNPARSABLE))])
    assert len({label for _, _, label in stored_rows(str(store))}) == 2
    assert all(label.startswith("m (") for _, _, label in stored_rows(str(store)))


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    a = make_store(tmp_path / "a.sqlite", {"m": [0.1]})
    other = make_store(tmp_path / "b.sqlite", {"m": [0.1]}, reference="base tiny float64, tokenizer t")
    with pytest.raises(DataError, match=r"not measured alike.*: base tiny float32; base tiny float64"):
        compare_runs(stored_rows(a), stored_rows(other))
    budget = make_store(tmp_path / "c.sqlite", {"m": [0.1]}, budget="5%")
    with pytest.raises(DataError, match="share no contender"):
        compare_runs(stored_rows(a), stored_rows(budget))
    with pytest.raises(DataError, match="there is no store"):
        stored_rows(str(tmp_path / "none.sqlite"))
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(DataError, match="has no scores yet"):
        stored_rows(make_store(tmp_path / "d.sqlite", {"m": ["unparsable"]}))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = make_store(tmp_path / "a.sqlite", {"m [x]": [0.1] * 6}, budget="20 tokens")
    b = make_store(tmp_path / "b.sqlite", {"m [x]": [0.2] * 6}, budget="20 tokens")
    output = tmp_path / "differences.csv"
    assert main(["report", "--compare", a, b, "--output", str(output)]) == 0
    out = capsys.readouterr().out
    for part in ("Budget 20 tokens, SQUISH (reference", "a.sqlite", "m [x]", "0.1000 [0.100, 0.100]", "resolved"):
        assert part in out
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [row["score"] for row in rows] == ["fair", "novel", "squish", "support"]
    assert float(rows[2]["ahead"]) == pytest.approx(0.1)
    assert rows[2]["resolved"] == "True"
    assert pairs_csv(compare_runs(stored_rows(a), stored_rows(b))) == output.read_text()
    assert main(["report", "--compare", a, str(tmp_path / "none")]) == 2
    assert "there is no store" in capsys.readouterr().err
