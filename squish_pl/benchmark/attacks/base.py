"""What all attacks have in common: no summary, yet as long as one may be."""

from __future__ import annotations

import abc
import random
from importlib.metadata import version

from squish_pl.benchmark.contenders.baselines import Baseline, NothingToWriteError, Opening
from squish_pl.benchmark.records import Task, text_hash
from squish_pl.budget import Budget
from squish_pl.types import Document


class Attack(Baseline):
    """Writes what nobody would call a summary, to see whether a score can be bought by it.

    Args:
        name: As the leaderboard shows it; by default `title`.

    Attributes:
        title: Its name where none is given.
    """

    is_attack = True
    title = ""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name or self.title)

    @property
    def identity(self) -> str:
        """Class and settings, with the versions of this package and of the libraries it needs."""
        return ", ".join([super().identity, *(f"{name} {version(name)}" for name in self.needs)])


class CutAttack(Attack):
    """An attack that is written out in full and cut to the budget, so that it is as long as it can be.

    Where that would be the document's opening and nothing else, the task has failed.
    """

    def write(self, task: Task, budget: Budget) -> str:
        """The attack, cut to the budget."""
        limit = budget.limit(task.document.text, self.tokenizer)
        summary = self.cut(self.text(task.document, limit, budget), limit, budget)
        if summary == self.cut(task.document.text, limit, budget):
            raise NothingToWriteError("within the budget it is the document's opening")
        return summary

    @abc.abstractmethod
    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """What is cut to the budget.

        Args:
            document: The document.
            limit: The longest summary allowed, in what the budget counts.
            budget: Says what it counts.

        Raises:
            NothingToWriteError: The document lacks what it is made of.
        """


class CopiedOpening(Opening):
    """The document's own first words: buys every token that it copies.

    Args:
        name: As the leaderboard shows it.
    """

    is_attack = True

    def __init__(self, name: str = "copied opening") -> None:
        super().__init__(name)


def lot(seed: int, document: Document) -> random.Random:
    """Chance that seed and document decide."""
    return random.Random(f"{seed} {text_hash(document.text)}")
