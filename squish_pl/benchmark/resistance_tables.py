"""The resistance to attacks for people and programs: rich tables, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from squish_pl.benchmark.leaderboard_tables import wide_console
from squish_pl.benchmark.resistance import Resistance, ResistanceTable, mean_over_attacks
from squish_pl.markdown import escape
from squish_pl.score.measures.base import score_title

NONE_IN_COMMON = "–"  #: where no document has both summaries
_HEAD = ("budget", "reference", "score", "attack", "share", "share_low", "share_high", "documents")


class Shown(NamedTuple):
    """The table of a budget and reference, as text.

    Attributes:
        budget: As text.
        reference: Its name.
        title: Says what is shown.
        heading: Of the columns.
        rows: A line for each attack, then their mean.
    """

    budget: str
    reference: str
    title: str
    heading: list[str]
    rows: list[list[str]]


def shown_tables(table: ResistanceTable) -> Iterator[Shown]:
    """A table for each budget and reference."""
    for (budget, reference), lines in table.groups().items():
        title = (
            f"Resistance at {budget}, reference {reference}: share of documents on which {table.good} score above "
            "the attack [95 % bootstrap interval]"
        )
        by_attack: dict[str, dict[str, Resistance]] = {}
        for line in lines:
            by_attack.setdefault(line.attack, {})[line.score] = line
        scores = list(dict.fromkeys(line.score for line in lines))
        rows = [
            [attack, *(_share(of[score]) for score in scores), _documents(of.values())]
            for attack, of in by_attack.items()
        ]
        means = [_percent(mean_over_attacks(lines, score)) for score in scores]
        heading = ["attack", *map(score_title, scores), "documents"]
        yield Shown(budget, reference, title, heading, [*rows, ["mean over attacks", *means, ""]])


def print_resistance(table: ResistanceTable) -> None:
    """Prints a table for each budget and reference."""
    console = wide_console()
    for shown in shown_tables(table):
        console.print(shown.title, style="table.title", markup=False, highlight=False)
        drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in shown.heading:
            drawn.add_column(Text(name), justify="left" if name == "attack" else "right")
        for row in shown.rows:
            drawn.add_row(*map(Text, row), end_section=row is shown.rows[-2])
        console.print(drawn)


def resistance_markdown(table: ResistanceTable) -> str:
    """The same tables in Markdown, each under its title; names are escaped."""
    parts = []
    lines = [
        line._replace(
            budget=escape(line.budget),
            reference=escape(line.reference),
            score=escape(line.score),
            attack=escape(line.attack),
        )
        for line in table.lines
    ]
    for shown in shown_tables(ResistanceTable(escape(table.good), lines)):
        rules = ["---" if name == "attack" else "---:" for name in shown.heading]
        cells = [shown.heading, rules, *shown.rows]
        parts.append(f"**{shown.title}**\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in cells))
    return "\n\n".join(parts) + "\n"


def resistance_csv(table: ResistanceTable) -> str:
    """A line for each budget, reference, score and attack, with every figure in full; empty where there is none."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_HEAD)
    for line in table.lines:
        share = ["" if math.isnan(value) else value for value in line.share]
        writer.writerow([line.budget, line.reference, line.score, line.attack, *share, line.documents])
    return file.getvalue()


def _documents(lines: Iterable[Resistance]) -> str:
    """How many documents, from the fewest of a score to the most."""
    counts = [line.documents for line in lines]
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _share(line: Resistance) -> str:
    if math.isnan(line.share.low):
        return _percent(line.share.mean)
    return f"{_percent(line.share.mean)} [{_percent(line.share.low)}, {_percent(line.share.high)}]"


def _percent(value: float | None) -> str:
    return NONE_IN_COMMON if value is None or math.isnan(value) else f"{value:.0%}"
