"""The original's copied baseline."""

from __future__ import annotations

from squish_pl.benchmark.contenders.baselines import Baseline
from squish_pl.benchmark.original_rules import shortened
from squish_pl.benchmark.records import Task
from squish_pl.budget import Budget


class OriginalOpening(Baseline):
    """The document's first int(0.7 * limit) characters as they stand, the original's "truncated document".

    Args:
        name: As the leaderboard shows it.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name or "opening, the original's")

    def write(self, task: Task, budget: Budget) -> str:
        """The opening."""
        text = task.document.text
        return shortened(text, budget.limit(text, self.tokenizer), budget, self.tokenizer)
