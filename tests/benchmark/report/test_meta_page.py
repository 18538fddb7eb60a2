"""The meta-evaluation's page: its figures, and as a file: whole, escaped, self-contained."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import meta_examples as examples
import pytest
from report_examples import HOSTILE
from test_page import Reader

from squish_pl.benchmark.report import meta_views
from squish_pl.benchmark.report.meta_page import write_meta_page
from squish_pl.benchmark.report.page_text import printable
from squish_pl.errors import DataError


def written(folder: Path, strange: str = "", documents: int = 6) -> tuple[str, Reader]:
    path = folder / "page.html"
    write_meta_page(examples.findings(strange, documents), path)
    text = path.read_text(encoding="utf-8")
    return text, Reader(text)


def test_tables_by_hand() -> None:
    tables = meta_views.correlation_tables(examples.findings().rows)
    assert [(table.kind, table.file) for table in tables] == [
        (kind, file) for kind in ("within", "summary", "system", "partial") for file in ("one.jsonl", "two.csv")
    ]
    within, two = tables[:2]
    assert (within.aspects, within.about) == (["relevance", "fluency"], "6 documents, 18 summaries")
    assert within.rows["exact"][0] == ((1, 1, 1), "")
    assert within.rows["contrary"][0] == ((-1, -1, -1), "behind")
    assert math.isnan(within.rows["exact"][1].estimate.mean)  # equal ratings cannot be followed
    # ratings 5 1 3 and values 0 0.5 1
    assert two.rows["exact"][0].estimate.mean == pytest.approx(-0.5)
    assert tables[4].rows["contrary"][0].note == ""
    assert tables[5].rows == {}  # no systems
    assert meta_views.correlation_tables(examples.findings(documents=5).rows)[0].rows["contrary"][0].note == ""


def test_dots_by_hand() -> None:
    plots = {(p.rated, p.layout, p.measure): p for p in meta_views.plots(examples.findings())}
    assert len(plots) == 3 * 2 * 2
    plot = plots["one.jsonl: relevance", "values", "exact"]
    # axes from 48 to 304 and from 196 up to 16; six summaries at each place are in the third class
    assert plot.dots == [(8.0, "M48 196h0M176 136h0M304 16h0")]
    assert (plot.summaries, plot.right, plot.up, plot.estimate.mean) == (18, ("0", "1"), ("1", "4"), 1)
    plot = plots["one.jsonl: relevance", "ranks", "contrary"]
    assert plot.dots == [(8.0, "M304 196h0M176 106h0M48 16h0")]
    assert (plot.right, plot.up, plot.estimate.mean) == (("lowest", "highest"), ("low", "high"), -1)
    # all ratings are equal: in the middle
    assert plots["one.jsonl: fluency", "values", "exact"].dots == [(8.0, "M48 106h0M176 106h0M304 106h0")]
    # one has no value
    plot = plots["two.csv: overall", "values", "contrary"]
    assert (plot.dots, plot.summaries) == ([(4.0, "M304 16h0M48 196h0")], 2)
    assert (plot.right, plot.up) == (("0.25", "0.5"), ("1", "5"))


def test_systems_by_hand() -> None:
    findings = examples.findings()
    file = findings.files[0]
    first = replace(file.documents[0], systems=("lead", None, "large"))
    findings = replace(findings, files=[replace(file, documents=(first, *file.documents[1:])), findings.files[1]])
    found = {(s.rated, s.measure): s for s in meta_views.systems(findings)}
    assert set(found) == {
        (f"one.jsonl: {a}", measure) for a in ("relevance", "fluency") for measure in ("exact", "contrary")
    }
    shown = found["one.jsonl: relevance", "contrary"]
    assert shown.means == {"lead": (0, 1), "large": (-1, 4), "small": (-0.5, 2)}
    assert shown.estimate.mean == -1


def test_everything_is_there(tmp_path: Path) -> None:
    text, reader = written(tmp_path)
    assert text.startswith("<!DOCTYPE html>")
    for part in (
        "a reference",
        "6 of one.jsonl 1 of two.csv",
        "after 96 tokens",
        "Sum: {summary}",
        "one.jsonl , within documents: 6 documents, 18 summaries",
        "contrary −1.00 −1.00 to −1.00 behind",
        "two.csv : none, for fewer than three systems are known.",
        "two.csv: overall : fewer than three systems are known.",
        "3 systems: ρ 1.00",
    ):
        assert part in reader.shown
    assert "nan" not in re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL).lower()
    drawn = [attributes for tag, attributes in reader.tags if tag == "figure"]
    assert len([one for one in drawn if "plot" in str(one["class"]).split()]) == 12
    assert len([one for one in drawn if "systems" in str(one["class"]).split()]) == 4
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("strange", HOSTILE)
def test_every_text_is_escaped(strange: str, tmp_path: Path) -> None:
    _, plain = written(tmp_path)
    _, reader = written(tmp_path, strange)
    assert [tag for tag, _ in reader.tags if tag in ("script", "img")] == ["script"]
    assert [tag for tag, _ in reader.tags if tag == "figure"] == [tag for tag, _ in plain.tags if tag == "figure"]
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    clean = printable(strange)
    for before in ("a reference", "6 of one", "exact", "contrary", "relevance", "Sum"):
        assert " ".join((before + clean).split()) in reader.shown


def test_nothing_is_loaded(tmp_path: Path) -> None:
    _, reader = written(tmp_path, " https://example.org/a.js")
    assert reader.loads == ["data:,"]


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_meta_page(examples.findings(), tmp_path / "file" / "page.html")
