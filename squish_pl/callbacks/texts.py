"""Texts and tables beside a run's figures, for every logger that has a place for them.

TensorBoard, and MLflow as an artifact, get Markdown; W&B a table; a CSV logger a file of its own, `<key>.csv`. W&B's
and MLflow's are told by what they can do, so that one of a user's own that does the same gets the same.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from squish_pl.markdown import escape


def log_text(loggers: Iterable[Logger], key: str, text: str, step: int) -> None:
    """Hands Markdown to the loggers that take it."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(key, text, step)
        elif _takes_artifacts(logger):
            cast(Any, logger).experiment.log_text(cast(Any, logger).run_id, text, f"{key}/{step}.md")


def log_table(
    loggers: Iterable[Logger], key: str, heads: Sequence[str], rows: Sequence[Sequence[str]], step: int
) -> None:
    """Hands a table to the loggers that take one, or Markdown; cells are plain text."""
    for logger in loggers:
        if hasattr(logger, "log_table"):  # W&B's interface
            logger.log_table(key=key, columns=list(heads), data=[list(row) for row in rows], step=step)
        elif isinstance(logger, CSVLogger):
            _append(Path(logger.log_dir) / f"{key}.csv", heads, rows, step)
        else:
            log_text([logger], key, markdown_table(heads, rows), step)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its cells escaped."""
    lines = [f"| {' | '.join(map(escape, row))} |" for row in rows]
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines])


def _takes_artifacts(logger: Any) -> bool:
    """Whether it has MLflow's interface, whose client takes a run's texts."""
    return hasattr(logger, "run_id") and hasattr(logger.experiment, "log_text")


def _append(path: Path, heads: Sequence[str], rows: Sequence[Sequence[str]], step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["round", *heads]] * new + [[str(step), *row] for row in rows])
