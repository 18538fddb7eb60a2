"""The page as a file: whole, escaped, self-contained, and with the right figures."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import report_examples as examples

from squish_pl.benchmark.findings import Findings, Usage
from squish_pl.benchmark.report import page_text
from squish_pl.benchmark.report.charts import Chart, Picture
from squish_pl.benchmark.report.page import write_page
from squish_pl.errors import DataError

_VOID = {"meta", "link", "input", "br", "hr", "img"}


class Reader(HTMLParser):
    """Takes a page apart and fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: dict[str, str] = {}  # by id; the page's own has none
        self._open: list[str] = []
        self._script = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or ""
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif "style" not in self._open:
            self.text.append(data)

    @property
    def shown(self) -> str:
        """All text, white space made one space."""
        return " ".join(" ".join(self.text).split())

    @property
    def loads(self) -> list[str | None]:
        """What tags name to be fetched, places of the page itself left out."""
        return [
            attributes[name]
            for tag, attributes in self.tags
            for name in ("src", "href", "srcset", "data", "action", "xlink:href")
            if name in attributes and not (attributes[name] or "").startswith("#")
        ]

    def block(self, number: int) -> dict[str, Any]:
        """A document as the script unpacks it."""
        return examples.unpacked(self.scripts[f"block-{number}"])


SCATTER = Chart("scatter", "Saved and copied", "Further right is better.", "scatter", "5%", "first reference")
PICTURES = [
    Picture(SCATTER._replace(title="Bars", kind="leaderboard"), b"", b"", ""),
    Picture(SCATTER, b"", b"", '<svg class="drawn"></svg>'),
]


def written(findings: Findings, folder: Path) -> tuple[str, Reader]:
    path = folder / "page.html"
    write_page(findings, PICTURES, path)
    text = path.read_text(encoding="utf-8")
    return text, Reader(text)


def test_everything_is_there(tmp_path: Path) -> None:
    text, reader = written(examples.findings(), tmp_path)
    assert text.startswith("<!DOCTYPE html>")
    for part in ("A title", "3 of news.jsonl", "A note on the board.", "12,345", "678", "$0.0312", "1 min 15 s"):
        assert part in reader.shown
    assert "2 × a reason" in reader.shown
    assert "0.1000 0.0900 to 0.1100 0.0100 0.0050 to 0.0150 +0.0123 resolved 25% 0% 100% 98% 40%" in reader.shown
    assert "3 opening baseline 0.0333 0.0300 to 0.0367 −0.0100 −0.0150 to −0.0050 – 25%" in reader.shown
    assert "Not comparable in rank: measured elsewhere, under another template" in reader.shown
    assert "the original SQUISH project's published charts" in reader.shown
    drawn = [attributes for tag, attributes in reader.tags if tag == "figure"]
    assert drawn == [
        {"class": "scatter choice chosen", "data-budget": "5%", "data-reference": "first reference"}
    ]  # the tables show the bars
    assert "Saved and copied Further right is better." in reader.shown
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_failures_and_open_leads_are_told(tmp_path: Path) -> None:
    board = examples.board(references=examples.REFERENCES[:1])
    board.standings[0] = replace(board.standings[0], resolved=False, coverage=0.857, failed=3)
    findings = replace(examples.findings(references=examples.REFERENCES[:1]), board=board)
    _, reader = written(findings, tmp_path)
    assert "+0.0123 unresolved 25% 0% 86% 3 failed 98%" in reader.shown


def test_what_is_not_there_is_a_dash(tmp_path: Path) -> None:
    board = examples.board(references=examples.REFERENCES[:1])
    nothing = {
        "scores": dict.fromkeys(("squish", "novel"), examples.NOTHING),
        "ahead": examples.NOTHING,
        "resolved": False,
    }
    shares = dict.fromkeys(("coverage", "unparsable", "over_budget", "length_used", "copied"), math.nan)
    board.standings[:] = [examples.standing("small model", 1, **nothing, **shares)]
    findings = replace(examples.findings(documents=0, references=examples.REFERENCES[:1]), board=board, usage=())
    text, reader = written(findings, tmp_path)
    assert "1 small model – – – – – – – –" in reader.shown
    assert "nan" not in re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL).lower()
    assert "Nobody is ranked at 10% under first reference" in reader.shown
    assert json.loads(reader.scripts["index"]) == {
        "marks": {},
        "documents": [],
        "references": ["first reference"],
        "scores": [["squish", "SQUISH"], ["novel", "SQUISH-novel"]],
        "rank_by": "squish",
    }


def test_many_reasons_are_cut_short(tmp_path: Path) -> None:
    reasons = [(f"why {number}", 22 - number) for number in range(22)]
    usage = [Usage("small model", 0, 99, 0, 0, None, 0.0, reasons)]
    _, reader = written(replace(examples.findings(), usage=usage), tmp_path)
    assert "22 × why 0 21 × why 1 " in reader.shown
    assert "3 × why 19 and 3 more Published" in reader.shown


@pytest.mark.parametrize("strange", examples.HOSTILE)
def test_every_text_is_escaped(strange: str, tmp_path: Path) -> None:
    plain = Reader((written(examples.findings(), tmp_path))[0])
    _, reader = written(examples.findings(strange=strange), tmp_path)
    # not a tag more, and no text is lost
    assert [tag for tag, _ in reader.tags if tag in ("script", "img")] == [
        tag for tag, _ in plain.tags if tag in ("script", "img")
    ]
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    clean = page_text.printable(strange)
    for before in ("A title ", "its text ", "Another note ", "a reason ", "small model", "Model ", "first reference"):
        assert " ".join((before + clean).split()) in reader.shown
    block = reader.block(0)
    assert block["text"].startswith(f"{clean}word0x0 {clean}word0x1 ")
    assert block["summaries"][0]["text"] == f"small model{clean} at 5%, sample 0 {clean}"
    index = json.loads(reader.scripts["index"])
    assert index["documents"][0] == {
        "title": f"Document 1 {clean}".strip(),
        "blocks": {f"first reference{clean}": 0, f"second reference{clean}": 3},
    }
    assert index["marks"] == {f"opening{clean}": "baseline"}
    assert "<" not in reader.scripts["index"]


def test_nothing_is_loaded_and_the_policy_allows_nothing(tmp_path: Path) -> None:
    text, reader = written(examples.findings(strange=" https://example.org/a.js"), tmp_path)
    assert reader.loads == ["data:,"]
    style = text.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    policies = [
        " ".join((attributes["content"] or "").split())
        for _, attributes in reader.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(reader.scripts[""].encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    ]


def test_one_document_at_a_time(tmp_path: Path) -> None:
    findings = examples.findings(documents=3, references=examples.REFERENCES[:1])
    path = tmp_path / "page.html"
    sizes = []

    def documents() -> Any:
        for number in range(3):
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
            yield examples.document(number, words=30_000)

    write_page(replace(findings, documents=documents), PICTURES, path)
    assert sizes[0] < sizes[1] < sizes[2] < path.stat().st_size


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "page.html"
    write_page(examples.findings(), PICTURES, path)
    before = path.read_bytes()

    def documents() -> Any:
        yield examples.document()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_page(replace(examples.findings(), documents=documents), PICTURES, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    with pytest.raises(DataError, match="cannot write "):
        write_page(examples.findings(), PICTURES, path / "below a file.html")
