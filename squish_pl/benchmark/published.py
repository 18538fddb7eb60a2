"""Scores that the original SQUISH project published in its charts: to be looked at beside ours, never ranked with them.

They were measured on its own documents, under its own wording of the frame.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

SOURCE = "the original SQUISH project's published charts"
MARK = "measured elsewhere, under another template"  #: to be shown with every one of these figures

_BUDGETS = {"squish_at_5": "5%", "squish_at_10": "10%"}


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """A mean SQUISH as it was published.

    Attributes:
        model: As the charts name it.
        mode: "reasoning" or "instruct".
        budget: "5%" or "10%", of the characters.
        squish: Read to three decimals.
    """

    model: str
    mode: str
    budget: str
    squish: float


def published_scores() -> list[PublishedScore]:
    """All published scores, model by model; a model has none under a budget that its chart leaves out."""
    text = files("squish_pl.benchmark").joinpath("published_scores.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [
        PublishedScore(line["model"], line["mode"], budget, float(line[column]))
        for line in lines
        for column, budget in _BUDGETS.items()
        if line[column]
    ]
