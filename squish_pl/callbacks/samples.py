"""The same documents' summaries at every validation, to be read before and after."""

from __future__ import annotations

import math

from lightning.pytorch import Callback, Trainer

from squish_pl.callbacks.texts import log_table
from squish_pl.errors import report_problems
from squish_pl.module import SquishModule
from squish_pl.rl.validation import Validated, own_keys


class SampleSummaries(Callback):
    """Writes a table to the loggers (see `callbacks.texts`) after every validation, the one before training included.

    Args:
        documents: How many validation documents are shown; always the first ones.
        opening_characters: How much of each document's start is shown.
    """

    def __init__(self, documents: int = 4, opening_characters: int = 160) -> None:
        wanted = {"documents": documents, "opening_characters": opening_characters}
        report_problems([f"samples.{k} must be at least 1, but is {v}" for k, v in wanted.items() if v < 1])
        self.documents, self.opening_characters = documents, opening_characters

    def on_validation_end(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Writes the table."""
        if not trainer.is_global_zero:
            return
        log_table(trainer.loggers, "summaries", *self.table(pl_module.validated), pl_module.round)

    def table(self, lines: list[Validated]) -> tuple[list[str], list[list[str]]]:
        """The table's heads and rows."""
        shown = list(dict.fromkeys(line.document_id for line in lines))[: self.documents]
        keys = own_keys(lines[0].scores) if lines else ["squish", "novel"]
        rows = [
            [
                f"{line.opening[: self.opening_characters]}…",
                line.budget,
                _said(line),
                *(_number(line.scores[key]) for key in (*keys, "lead")),
            ]
            for document in shown
            for line in lines
            if line.document_id == document
        ]
        return ["document", "budget", "summary", "SQUISH", *keys[1:], "opening's SQUISH"], rows


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _said(line: Validated) -> str:
    if line.summary is None:
        return f"({line.finish}: no summary to parse)"
    return line.summary if line.within_budget else f"(over the budget or empty) {line.summary}"
