"""The report as one HTML file that needs nothing else: no network, no other file, no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from squish_pl.benchmark.findings import Findings, ShownDocument
from squish_pl.benchmark.published import MARK, SOURCE
from squish_pl.benchmark.records import text_hash
from squish_pl.benchmark.report import page_views
from squish_pl.benchmark.report.charts import Picture
from squish_pl.benchmark.report.page_documents import packed
from squish_pl.benchmark.report.page_template import filled
from squish_pl.benchmark.report.page_text import printable
from squish_pl.benchmark.resistance_tables import shown_tables
from squish_pl.benchmark.scores import Score
from squish_pl.files import written_whole


def write_page(findings: Findings, drawn: Sequence[Picture], path: Path) -> None:
    """Writes the report, whole or not at all; documents go through memory one at a time.

    Args:
        findings: What is shown.
        drawn: Its charts.
        path: The file, and its folder where there is none.

    Raises:
        DataError: The file cannot be written; an earlier one is untouched.
    """
    board = findings.board
    marks = {standing.contender: standing.mark for standing in board.standings if standing.mark}
    index = _Index(findings.references, marks, board.scores, board.rank_by)
    pieces = filled(
        "page.html.j2",
        findings.title,
        findings.facts,
        scripts=["page_drawing.js", "page.js"],
        findings=findings,
        views=page_views.views(findings),
        board_references=page_views.board_references(findings),
        pictures=[picture for picture in drawn if picture.element],
        resistance=[] if findings.resistance is None else list(shown_tables(findings.resistance)),
        published=page_views.published(findings.published),
        mark=MARK,
        source=SOURCE,
        blocks=_blocks(findings.documents(), index),
        index=index,
    )
    with written_whole(path) as file:
        file.writelines(pieces)


@dataclass
class _Index:
    """What the script needs to know of all documents; grows while they are written."""

    references: Sequence[str]
    marks: Mapping[str, str]  # "baseline" or "attack", by contender
    scores: Sequence[Score]
    rank_by: str
    blocks: int = 0
    titles: dict[str, str] = field(default_factory=dict)  # by the text's hash
    numbers: dict[str, dict[str, int]] = field(default_factory=dict)  # of blocks, by hash and reference

    def add(self, document: ShownDocument) -> int:
        """Counts a document in; the same text under another reference is the same document.

        Returns:
            The number of its block.
        """
        name = text_hash(document.text)
        self.titles.setdefault(name, printable(document.title))
        self.numbers.setdefault(name, {})[printable(document.reference)] = self.blocks
        self.blocks += 1
        return self.blocks - 1

    def data(self) -> dict[str, object]:
        """For the script; `blocks` of a document: by reference, its block's number."""
        documents = [{"title": title, "blocks": self.numbers[name]} for name, title in self.titles.items()]
        return {
            "references": [printable(name) for name in self.references],
            "marks": {printable(name): mark for name, mark in self.marks.items()},
            "scores": [[printable(score.key), printable(score.title)] for score in self.scores],
            "rank_by": printable(self.rank_by),
            "documents": documents,
        }


def _blocks(documents: Iterator[ShownDocument], index: _Index) -> Iterator[tuple[int, str]]:
    for document in documents:
        yield index.add(document), packed(document)
