"""Tables of the meta-evaluation: printed whole, marked where a lead is sure, and the same figures in the files."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from squish_pl.benchmark.meta import Agreement, Difference
from squish_pl.benchmark.meta_run import MetaRow
from squish_pl.benchmark.meta_tables import cell, mark, meta_json, print_meta, write_meta
from squish_pl.score.bootstrap import Estimate

NAN = math.nan
NONE = Estimate(NAN, NAN, NAN)
LONG = "0.5 squish + 0.25 novel 4 + 0.25 (0.5 support + 0.5 supportgain)"


def row(
    measure: str = "squish",
    aspect: str = "relevance",
    ahead: Difference | None = None,
    documents: int = 6,
    system: float = NAN,
    file: str = "r.jsonl",
) -> MetaRow:
    tau = {"within": 0.25, "summary": 0.125, "system": NAN}
    own = Agreement(
        Estimate(0.5, 0.25, 0.75), Estimate(0.4, NAN, NAN), Estimate(system, NAN, NAN), NONE, tau,
        torch.tensor([0.5] * documents + [NAN]), 18,
    )  # fmt: skip
    return MetaRow(measure, file, aspect, own, ahead)


def lead(mean: float, p: float, documents: int) -> Difference:
    return Difference(Estimate(mean, NAN, NAN), p, documents)


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (None, ""),
        (lead(0.1, 0.049, 6), "+"),
        (lead(-0.1, 0.001, 100), "-"),
        (lead(0.1, 0.05, 6), ""),
        (lead(0.1, 0.001, 5), ""),
        (lead(NAN, NAN, 6), ""),
    ],
)
def test_leads_are_marked_where_they_are_sure(ahead: Difference | None, expected: str) -> None:
    assert mark(row(ahead=ahead)) == expected
    assert cell(row(ahead=ahead)) == f"0.50 [0.25, 0.75]{expected}"
    assert cell(row(ahead=ahead, system=0.625)) == f"0.50 [0.25, 0.75]{expected} (0.62)"


@pytest.mark.parametrize("width", [20, 80, 300])
def test_nothing_wraps_in_a_table(width: int) -> None:
    aspects = ["coherence", "consistency", "fluency", "relevance", "litepyramid_recall"]
    rows = [row(name, aspect, system=-0.25) for name in ("squish", LONG, "[bold]") for aspect in aspects]
    out = io.StringIO()
    print_meta(rows, "a reference", Console(file=out, width=width))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[0] == "r.jsonl: 6 documents, 18 summaries, a reference"
    heading = next(line for line in lines if line.split()[:1] == ["measure"])
    assert heading.split() == ["measure", *aspects]
    for name in ("squish", LONG, "[bold]"):
        [own] = [line for line in lines if line.strip().startswith(name + " ")]
        assert own.count("0.50 [0.25, 0.75] (-0.25)") == 5


def test_each_file_has_its_table() -> None:
    out = io.StringIO()
    print_meta([row(file="one.jsonl"), row(file="two.csv", aspect="overall")], "m", Console(file=out, width=80))
    told = out.getvalue()
    assert told.index("one.jsonl") < told.index("relevance") < told.index("two.csv") < told.index("overall")


def test_files_have_all_figures(tmp_path: Path) -> None:
    rows = [row(), row("novel 4", ahead=lead(-0.125, 0.5, 6))]
    table = write_meta(rows, {"reference": "m"}, tmp_path / "meta.json")
    found = json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
    assert found == meta_json(rows, {"reference": "m"})
    assert found["default"] == "squish"
    own = {"within": 0.5, "summary": pytest.approx(0.4), "system": None, "partial": None}
    assert found["scores"] == {name: {"r.jsonl": {"relevance": own}} for name in ("squish", "novel 4")}
    assert found["intervals"]["squish"]["r.jsonl"]["relevance"]["within"] == [0.25, 0.75]
    assert found["kendall"]["novel 4"]["r.jsonl"]["relevance"] == {"within": 0.25, "summary": 0.125, "system": None}
    lead_ = {"mean": -0.125, "interval": [None, None], "p": 0.5, "documents": 6}
    assert found["ahead"] == {"novel 4": {"r.jsonl": {"relevance": lead_}}}
    with table.open(encoding="utf-8") as file:
        one, two = csv.DictReader(file)
    assert (one["measure"], one["within"], one["within high"], one["system"]) == ("squish", "0.5", "0.75", "")
    assert (one["ahead"], two["ahead"], two["ahead p"], two["documents"]) == ("", "-0.125", "0.5", "6")
