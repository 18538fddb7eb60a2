"""The interface of all contenders."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.records import Answer, Task
from squish_pl.lm.tokens import whole_characters
from squish_pl.types import Document

_FREE_AT_A_TIME = 256  # answers that cost nothing, stored together


class Contender(abc.ABC):
    """Writes summaries.

    Args:
        name: As the leaderboard shows it; unique in a run.
        samples: Summaries it writes of each document and budget.

    Attributes:
        is_baseline: Whether the leaderboard marks it as a baseline.
        is_attack: Whether what it writes is no summary, to see whether a score can be bought by it.
        is_free: Whether asking it again costs nothing, so that its answers may be stored many at a time.
        in_portions: Whether the answers of a portion come together, and are stored together; see `portions`.
        tokenizer: The reference's, which counts budgets in tokens; the run sets it where there are such budgets, and
            only there.
    """

    is_baseline = False
    is_attack = False
    is_free = False
    in_portions = False

    def __init__(self, name: str, samples: int = 1) -> None:
        self.name, self.samples = whole_characters(name), samples
        self.tokenizer: PreTrainedTokenizerBase | None = None

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """Everything that decides what it writes, as text: when this changes, stored summaries no longer count.

        Never a key or password. Without `tokenizer`: the store keeps that with the tasks whose budgets count tokens,
        so that adding such a budget asks for nothing again.
        """

    def tasks(self, documents: Sequence[Document], budgets: Sequence[str]) -> list[Task]:
        """What it is asked in a run; called once, before it is asked anything.

        Args:
            documents: As they were read, in order; a text may come twice.
            budgets: As text, normalised.

        Raises:
            DataError: It cannot serve these documents.
        """
        different = distinct(documents)
        return [Task(d, b, s) for b in budgets for d in different for s in range(self.samples)]

    def check(self) -> None:  # noqa: B027 - most cannot fail
        """A quick trial before any contender is asked, so that what cannot work ends the run before it costs.

        Raises:
            SquishError: It cannot work.
        """

    @abc.abstractmethod
    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers each task once, in any order, each as soon as it is there: whoever asks stores it at once.

        A task that cannot be answered is an `Answer` with outcome FAILED and its reason, never an exception; an
        exception ends the run.
        """

    def portions(self, tasks: Sequence[Task]) -> list[Sequence[Task]]:
        """How its tasks are dealt out among processes that share the work; together they are all of the tasks.

        By default, one process asks for all of them, unless it costs nothing: then whole documents go together.
        """
        if not self.is_free:
            return [tasks] if tasks else []
        by_document: dict[str, list[Task]] = {}
        for task in tasks:
            by_document.setdefault(task.document.text, []).append(task)
        dealt: list[Sequence[Task]] = []
        some: list[Task] = []
        for own in by_document.values():
            some += own
            if len(some) >= _FREE_AT_A_TIME:
                dealt.append(some)
                some = []
        return [*dealt, some] if some else dealt

    def work_through(self, portions: Iterator[Sequence[Task]]) -> Iterator[tuple[Task, Answer]]:
        """Answers portions, each as `summarise` does; the next one is claimed when it is taken."""
        for portion in portions:
            yield from self.summarise(portion)

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        return [] if self.samples >= 1 else [f"samples must be at least 1, but is {self.samples}"]

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Gives back models and connections; called when its last task is answered, and after an error."""


def distinct(documents: Sequence[Document]) -> list[Document]:
    """The documents, in order, without those whose text came before."""
    found: dict[str, Document] = {}
    for document in documents:
        found.setdefault(document.text, document)
    return list(found.values())
