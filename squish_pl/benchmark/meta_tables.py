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
from rich.table import Table
from rich.text import Text

from squish_pl.benchmark.meta import KINDS
from squish_pl.benchmark.meta_run import MetaRow
from squish_pl.files import written_whole

_LEAST_WIDTH = 120  # a narrower terminal wraps lines, where rich would leave figures out
_SURE = 0.05
_CAPTION = (
    "Spearman's rho within documents, mean [95 % interval over documents], in brackets over systems' means; "
    "+ and - differ from the first measure in a paired bootstrap test, p < 0.05"
)


def print_meta(rows: Sequence[MetaRow], title: str) -> None:
    """Prints measures by files' aspects."""
    console = Console()
    if console.width < _LEAST_WIDTH:
        console = Console(width=_LEAST_WIDTH)
    by_file: dict[str, list[MetaRow]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    for file, own in by_file.items():
        measured = int((~own[0].agreement.documents.isnan()).sum())
        head = f"{file}: {measured} documents, {own[0].agreement.summaries} summaries, {title}"
        table = Table(title=Text(head), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("measure", overflow="fold")
        aspects = list(dict.fromkeys(row.aspect for row in own))
        for aspect in aspects:
            table.add_column(Text(aspect), justify="right", no_wrap=True)
        for measure in dict.fromkeys(row.measure for row in own):
            cells = {row.aspect: cell(row) for row in own if row.measure == measure}
            table.add_row(Text(measure), *(Text(cells[aspect]) for aspect in aspects))
        console.print(table)
    console.print(_CAPTION, markup=False, highlight=False)


def cell(row: MetaRow) -> str:
    """ "0.31 [0.12, 0.45]+ (0.64)"."""
    within, system = row.agreement.within, row.agreement.system.mean
    sign = ""
    if row.ahead is not None and row.ahead.p < _SURE:
        sign = "+" if row.ahead.mean.mean > 0 else "-"
    return within.text(2, 2) + sign + ("" if math.isnan(system) else f" ({system:.2f})")


def meta_json(rows: Sequence[MetaRow], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything as plain values, null where there is none.

    `scores` holds Spearman's rho by measure, file, aspect and kind; `intervals`, `kendall` and `ahead` (of the first
    measure) are laid out in the same way. `default` is the first measure.
    """
    return {
        "default": rows[0].measure if rows else None,
        "scores": _tree((row, {kind: _number(row.agreement.of(kind).mean) for kind in KINDS}) for row in rows),
        "intervals": _tree(
            (row, {kind: [_number(end) for end in row.agreement.of(kind)[1:]] for kind in KINDS}) for row in rows
        ),
        "kendall": _tree((row, {kind: _number(tau) for kind, tau in row.agreement.tau.items()}) for row in rows),
        "ahead": _tree(
            (row, {"mean": _number(d.mean), "interval": [_number(d.low), _number(d.high)], "p": _number(row.ahead.p)})
            for row in rows
            if row.ahead is not None and (d := row.ahead.mean)
        ),
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
        line |= {kind: _number(own.mean), f"{kind} low": _number(own.low), f"{kind} high": _number(own.high)}
    line |= {f"{kind} tau": _number(tau) for kind, tau in row.agreement.tau.items()}
    ahead = row.ahead
    line |= {"ahead": _number(ahead.mean.mean) if ahead else None, "ahead p": _number(ahead.p) if ahead else None}
    documents = int((~row.agreement.documents.isnan()).sum())
    return line | {"documents": documents, "summaries": row.agreement.summaries}


def _tree(values: Iterable[tuple[MetaRow, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    tree: dict[str, dict[str, dict[str, Any]]] = {}
    for row, value in values:
        tree.setdefault(row.measure, {}).setdefault(row.file, {})[row.aspect] = value
    return tree


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
