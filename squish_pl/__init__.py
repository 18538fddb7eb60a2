"""squish-pl: measures how good a summary is without human labels, and trains a small model to write better ones."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from squish_pl.budget import Budget
    from squish_pl.data import DocumentDataModule
    from squish_pl.module import SquishModule
    from squish_pl.score.metric import SquishMetric
    from squish_pl.score.scorer import SquishScorer

__version__ = "0.1.0"
__all__ = ["Budget", "DocumentDataModule", "SquishMetric", "SquishModule", "SquishScorer"]

_HOMES = {
    "Budget": "squish_pl.score",
    "SquishMetric": "squish_pl.score",
    "SquishScorer": "squish_pl.score",
    "SquishModule": "squish_pl.module",
    "DocumentDataModule": "squish_pl.data",
}


def __getattr__(name: str) -> Any:
    # loaded on first use: importing the package for the score alone does not import Lightning
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
