"""What the meta-evaluation found, for people and programs: a rich table, JSON, CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from squish_pl.benchmark.meta import KINDS, Agreement, Difference
from squish_pl.benchmark.meta_run import MetaRow
from squish_pl.benchmark.results import finite
from squish_pl.files import written_whole

_SURE = 0.05
_LEAST_DOCUMENTS = 6  #: of fewer, even a measure ahead on all of them may be so by chance: 2 / 2^5 is above 0.05
_CAPTION = (
    "Spearman's rho within documents, mean [95 % interval over documents], in brackets over systems' means; "
    "+ and - differ from the first measure in a paired bootstrap test, p < 0.05, over at least six documents"
)


def print_meta(rows: Sequence[MetaRow], title: str, console: Console | None = None) -> None:
    """Prints measures by files' aspects; a table is never narrower than its cells, whatever the terminal is."""
    console = console or Console()
    by_file: dict[str, list[MetaRow]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    for file, own in by_file.items():
        measured = measured_documents(own[0].agreement)
        head = f"{file}: {measured} documents, {own[0].agreement.summaries} summaries, {title}"
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("measure", no_wrap=True)
        aspects = list(dict.fromkeys(row.aspect for row in own))
        for aspect in aspects:
            table.add_column(Text(aspect), justify="right", no_wrap=True)
        for measure in dict.fromkeys(row.measure for row in own):
            cells = {row.aspect: cell(row) for row in own if row.measure == measure}
            table.add_row(Text(measure), *(Text(cells[aspect]) for aspect in aspects))
        console.print(Text(head), soft_wrap=True)
        # as wide as its cells, measured as in a terminal of any width
        table.width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console.print(table, soft_wrap=True)
    console.print(_CAPTION, markup=False, highlight=False)


def cell(row: MetaRow) -> str:
    """ "0.31 [0.12, 0.45]+ (0.64)"."""
    within, system = row.agreement.within, row.agreement.system.mean
    return within.text(2, 2) + mark(row) + ("" if math.isnan(system) else f" ({system:.2f})")


def mark(row: MetaRow) -> str:
    """ "+" or "-" where the measure follows ratings significantly better or worse than the first one."""
    ahead = row.ahead
    if ahead is None or ahead.documents < _LEAST_DOCUMENTS or not ahead.p < _SURE:
        return ""
    return "+" if ahead.mean.mean > 0 else "-"


def measured_documents(agreement: Agreement) -> int:
    """How many documents have a correlation of their own."""
    return int((~agreement.documents.isnan()).sum())


def meta_json(rows: Sequence[MetaRow], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything as plain values, null where there is none.

    `scores` holds Spearman's rho by measure, file, aspect and kind; `intervals`, `kendall` and `ahead` (of the first
    measure) are laid out in the same way. `default` is the first measure.
    """
    return {
        "default": rows[0].measure if rows else None,
        "scores": _tree((row, {kind: finite(row.agreement.of(kind).mean) for kind in KINDS}) for row in rows),
        "intervals": _tree(
            (row, {kind: [finite(end) for end in row.agreement.of(kind)[1:]] for kind in KINDS}) for row in rows
        ),
        "kendall": _tree((row, {kind: finite(tau) for kind, tau in row.agreement.tau.items()}) for row in rows),
        "ahead": _tree((row, _lead(row.ahead)) for row in rows if row.ahead is not None),
        "facts": facts,
    }


def write_meta(rows: Sequence[MetaRow], facts: dict[str, Any], path: Path) -> Path:
    """Writes the JSON file and a CSV table beside it, each whole or not at all.

    Returns:
        The table's path.

    Raises:
        DataError: One cannot be written.
    """
    table = path.with_suffix(".csv")
    with written_whole(path) as file:
        file.write(json.dumps(meta_json(rows, facts), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    with written_whole(table) as file:
        lines = [_line(row) for row in rows]
        writer = csv.DictWriter(file, list(lines[0]) if lines else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return table


def _line(row: MetaRow) -> dict[str, Any]:
    line: dict[str, Any] = {"measure": row.measure, "file": row.file, "aspect": row.aspect}
    for kind in KINDS:
        own = row.agreement.of(kind)
        line |= {kind: finite(own.mean), f"{kind} low": finite(own.low), f"{kind} high": finite(own.high)}
    line |= {f"{kind} tau": finite(tau) for kind, tau in row.agreement.tau.items()}
    ahead = row.ahead
    line |= {"ahead": finite(ahead.mean.mean) if ahead else None, "ahead p": finite(ahead.p) if ahead else None}
    return line | {"documents": measured_documents(row.agreement), "summaries": row.agreement.summaries}


def _lead(ahead: Difference) -> dict[str, Any]:
    mean, low, high = map(finite, ahead.mean)
    return {"mean": mean, "interval": [low, high], "p": finite(ahead.p), "documents": ahead.documents}


def _tree(values: Iterable[tuple[MetaRow, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    tree: dict[str, dict[str, dict[str, Any]]] = {}
    for row, value in values:
        tree.setdefault(row.measure, {}).setdefault(row.file, {})[row.aspect] = value
    return tree
