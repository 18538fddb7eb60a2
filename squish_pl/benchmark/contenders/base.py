"""The interface of all contenders."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

from squish_pl.benchmark.records import Answer, Task


class Contender(abc.ABC):
    """Writes summaries.

    Args:
        name: As the leaderboard shows it; unique in a run.

    Attributes:
        samples: Summaries it writes of each document and budget.
        is_baseline: Whether the leaderboard marks it as a baseline.
    """

    is_baseline = False

    def __init__(self, name: str, samples: int = 1) -> None:
        self.name, self.samples = name, samples

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """Everything that decides what it writes, as text: when this changes, stored summaries no longer count.

        Never a key or password.
        """

    def prepare(self, tasks: Sequence[Task]) -> None:  # noqa: B027 - most need none
        """Called once with all tasks of the run, answered ones among them, before any is asked."""

    @abc.abstractmethod
    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers each task once, in any order, each as soon as it is there: whoever asks stores it at once.

        A task that cannot be answered is an `Answer` with outcome FAILED and its reason, never an exception; an
        exception ends the run.
        """

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        return []

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Gives back models and connections; called when its last task is answered, and after an error."""
