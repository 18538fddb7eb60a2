"""A benchmark's findings in TensorBoard: charts among the images, tables among the texts.

There are no scalars: TensorBoard draws them over training steps, and a benchmark has none.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from squish_pl.benchmark.findings import Findings, Usage, most_frequent
from squish_pl.benchmark.leaderboard import Leaderboard
from squish_pl.benchmark.leaderboard_tables import to_markdown
from squish_pl.benchmark.report.charts import Picture
from squish_pl.benchmark.report.lettering import drawable
from squish_pl.benchmark.resistance_tables import resistance_markdown
from squish_pl.errors import DataError
from squish_pl.markdown import escape

_ABOUT, _LEADERBOARD, _RESISTANCE = "0 about", "1 leaderboard", "5 resistance"
_GROUPS = {"leaderboard": _LEADERBOARD, "scatter": "2 novelty", "curves": "3 budgets", "heat-map": "4 heat map"}


def log_findings(findings: Findings, drawn: Sequence[Picture], folder: str | Path) -> Path:
    """Writes a new run for TensorBoard.

    Args:
        findings: What there is to show.
        drawn: Its charts.
        folder: Where runs are; made where it is missing.

    Returns:
        The run's own folder, named after the time.

    Raises:
        DataError: The folder cannot be written.
    """
    run = _new_run(Path(folder).expanduser())
    captions: dict[str, str] = {}
    with SummaryWriter(str(run)) as writer:
        for chart, png, *_ in drawn:
            name = _name(findings, chart.budget, chart.reference) if chart.budget else chart.title
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            writer.add_image(f"{_GROUPS[chart.kind]}/{name}", pixels, dataformats="HWC")
            captions[_GROUPS[chart.kind]] = chart.caption
        writer.add_text(f"{_ABOUT}/facts", _facts(findings))
        legend = _table(("images", "click one to enlarge it"), captions.items())
        writer.add_text(f"{_ABOUT}/how to read the images", legend)
        if findings.usage:
            writer.add_text(f"{_ABOUT}/usage", _usage(findings.usage))
        for (budget, reference), table in _tables(findings.board):
            writer.add_text(f"{_LEADERBOARD}/{_name(findings, budget, reference)}", table)
        if findings.resistance is not None:
            writer.add_text(_RESISTANCE, resistance_markdown(findings.resistance))
    return run


def _new_run(folder: Path) -> Path:
    """A new folder named after the time; two of the same second get a number."""
    name = f"benchmark-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run, number = folder / name, 1
        while True:
            with suppress(FileExistsError):
                run.mkdir()
                return run
            number += 1
            run = folder / f"{name}-{number}"
    except OSError as error:
        raise DataError(f"cannot write TensorBoard's files to {str(folder)!r}: {error.strerror}") from None


def _name(findings: Findings, budget: str, reference: str) -> str:
    """What tells a chart or table from others of its kind."""
    return drawable(f"{budget}, {reference}" if len(findings.references) > 1 else budget)


def _tables(board: Leaderboard) -> Iterator[tuple[tuple[str, str], str]]:
    """Budgets and references, each with its leaderboard in Markdown."""
    for key, standings in board.groups().items():
        yield key, to_markdown(replace(board, standings=standings, notes=[]))


def _facts(findings: Findings) -> str:
    notes = [escape(note) for note in findings.board.notes]
    return "\n\n".join([f"**{escape(findings.title)}**", _table(("fact", ""), findings.facts.items()), *notes])


def _usage(usage: Sequence[Usage]) -> str:
    headings = ("contender", "answers", "failed", "tokens read", "tokens written", "US dollars", "seconds", "reasons")
    rows = [
        (
            line.contender,
            f"{line.answers:,}",
            f"{line.failed:,}",
            f"{line.prompt_tokens:,}",
            f"{line.completion_tokens:,}",
            "–" if line.cost is None else f"{line.cost:.2f}",
            f"{line.seconds:,.0f}",
            _reasons(line),
        )
        for line in usage
    ]
    return _table(headings, rows)


def _reasons(usage: Usage) -> str:
    shown, more = most_frequent(usage.reasons)
    told = [f"{reason} ({times})" for reason, times in shown]
    return "; ".join([*told, f"and {more} more"] if more else told)


def _table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown, with everything in it escaped."""
    lines = [map(escape, headings), ["---"] * len(headings), *(map(escape, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
