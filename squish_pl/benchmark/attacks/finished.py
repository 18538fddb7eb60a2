"""An attack that knows that breaking off is seen: any other one, made to end as a text does."""

from __future__ import annotations

from collections.abc import Sequence

from squish_pl.benchmark.attacks.base import Attack
from squish_pl.benchmark.contenders.baselines import Baseline, NothingToWriteError
from squish_pl.benchmark.records import Task
from squish_pl.budget import Budget
from squish_pl.types import Document

_CLOSED = tuple(".!?…。！？")
_LOOSE = " \t\n,;:-–—(\"'“‘"


class Finished(Attack):
    """Another attack's text up to its last whole word, with a full stop behind it.

    Args:
        attack: The other one; a text that is closed already stays as it is.
        name: As the leaderboard shows it; by default the other's name and "finished".
    """

    def __init__(self, attack: Baseline, name: str | None = None) -> None:
        super().__init__(name or f"{attack.name}, finished")
        self.attack = attack
        self.needs = attack.needs

    @property
    def settings(self) -> str:
        return self.attack.identity

    def tasks(self, documents: Sequence[Document], budgets: Sequence[str]) -> list[Task]:
        """The other's."""
        return self.attack.tasks(documents, budgets)

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        return super().problems() + self.attack.problems()

    def write(self, task: Task, budget: Budget) -> str:
        """The other attack, finished; never longer than that was.

        Raises:
            NothingToWriteError: The document lacks what the other is made of, or not even a word fits.
        """
        self.attack.tokenizer = self.tokenizer
        text = self.attack.write(task, budget).rstrip()
        if text.endswith(_CLOSED):
            return text
        limit = budget.limit(task.document.text, self.tokenizer)
        # what was cut may have been cut within a word
        whole = text.rpartition(" ")[0].rstrip(_LOOSE)
        while whole:
            if budget.length(f"{whole}.", self.tokenizer) <= limit:
                return f"{whole}."
            whole = whole.rpartition(" ")[0].rstrip(_LOOSE)
        raise NothingToWriteError("the budget holds no whole word of it")
