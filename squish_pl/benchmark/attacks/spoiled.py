"""Attacks that spoil a good summary, what people wrote: does a score see what is wrong with it?"""

from __future__ import annotations

import abc
import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from squish_pl.benchmark.attacks.base import Attack, lot
from squish_pl.benchmark.attacks.names import name_spans, number_spans
from squish_pl.benchmark.contenders.baselines import NothingToWriteError, highlights_hash, highlights_of
from squish_pl.benchmark.records import Task
from squish_pl.budget import Budget
from squish_pl.types import Document

_AUXILIARY = re.compile(
    r"\b(?:is|are|was|were|has|have|had|will|would|can|could|may|might|must|shall|should|does|do|did)\b"
    r"(?! not\b|n['’]t)",
    re.IGNORECASE,
)
_DENIAL = "It is not true that "
_NO_ROOM = "the budget leaves no room for what is spoiled"
_MADE_UP = (
    "The mayor has promised to answer for it before the winter.",
    "A second bridge will be opened on the first Sunday in May.",
    "Three witnesses have since taken back what they had said.",
    "Nobody in the village was told of it until the next day.",
    "The company has paid for the repairs out of its own pocket.",
)


class OfHighlights(Attack):
    """An attack that is made of the document's highlights; the task fails where there are none."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self._hash = ""

    @property
    def settings(self) -> str:
        """Which highlights are whose: after `tasks`."""
        return self._hash

    def tasks(self, documents: Sequence[Document], budgets: Sequence[str]) -> list[Task]:
        """One for each text and budget; of a text that comes twice, the first one's highlights count."""
        found = super().tasks(documents, budgets)
        self._hash = highlights_hash(found)
        return found


class Spoilt(NamedTuple):
    """A spoiled summary, and how many of its characters it takes to see that it is."""

    text: str
    needed: int


class Spoiled(OfHighlights):
    """The highlights, changed and cut to the budget; never without the change."""

    def write(self, task: Task, budget: Budget) -> str:
        """The spoiled highlights, cut to the budget."""
        limit = budget.limit(task.document.text, self.tokenizer)
        for spoiled in self.spoil(highlights_of(task.document), task.document):
            summary = self.cut(spoiled.text, limit, budget)
            if len(summary) >= spoiled.needed:
                return summary
        raise NothingToWriteError(_NO_ROOM)

    @abc.abstractmethod
    def spoil(self, summary: str, document: Document) -> Iterator[Spoilt]:
        """Ways to spoil a summary, the best first.

        Raises:
            NothingToWriteError: There is none.
        """


class ExchangedFacts(Spoiled):
    """The highlights with their numbers in each other's place, and their names: buys the score of what is false.

    Args:
        name: As the leaderboard shows it.
        seed: With the document it decides which takes whose place.
    """

    needs = ("nltk",)
    title = "facts exchanged"

    def __init__(self, name: str | None = None, seed: int = 0) -> None:
        super().__init__(name)
        self.seed = seed

    @property
    def settings(self) -> str:
        return f"seed {self.seed}, {super().settings}"

    def spoil(self, summary: str, document: Document) -> Iterator[Spoilt]:
        """One way; a number or name that comes twice is replaced by the same both times."""
        chance = lot(self.seed, document)
        places: dict[tuple[int, int], str] = {}
        for spans in (number_spans(summary), name_spans(summary)):
            other = _exchange(list(dict.fromkeys(summary[start:end] for start, end in spans)), chance)
            places |= {(start, end): other[summary[start:end]] for start, end in spans if other}
        if not places:
            raise NothingToWriteError("the highlights have neither two numbers nor two names")
        text, behind, needed = "", 0, 0
        for (start, end), put in sorted(places.items()):
            text += summary[behind:start] + put
            behind, needed = end, needed or len(text)
        yield Spoilt(text + summary[behind:], needed)


class AddedNegation(Spoiled):
    """The highlights saying the opposite: buys the score of what is false for three letters."""

    title = "negation added"

    def spoil(self, summary: str, document: Document) -> Iterator[Spoilt]:
        """A "not" behind the first auxiliary verb; else all of it denied."""
        if verb := _AUXILIARY.search(summary):
            yield Spoilt(f"{summary[: verb.end()]} not{summary[verb.end() :]}", verb.end() + len(" not"))
        yield Spoilt(_DENIAL + summary, len(_DENIAL) + 1)


class AllCapitals(Spoiled):
    """The highlights in capitals: buys nothing, and must not; what it loses, a good summary may lose by its looks."""

    title = "all in capitals"

    def spoil(self, summary: str, document: Document) -> Iterator[Spoilt]:
        """One way."""
        if summary.upper() == summary:
            raise NothingToWriteError("the highlights have no small letters")
        yield Spoilt(summary.upper(), 1)


class AddedSentence(OfHighlights):
    """The highlights with a made-up sentence behind them: buys the score of a summary of which a part is invented.

    Args:
        name: As the leaderboard shows it.
        seed: With the document it decides which sentence.
    """

    title = "sentence added"

    def __init__(self, name: str | None = None, seed: int = 0) -> None:
        super().__init__(name)
        self.seed = seed

    @property
    def settings(self) -> str:
        return f"seed {self.seed}, {super().settings}"

    def write(self, task: Task, budget: Budget) -> str:
        """The highlights, cut so that the whole sentence has room."""
        summary, limit = highlights_of(task.document), budget.limit(task.document.text, self.tokenizer)
        added = " " + lot(self.seed, task.document).choice(_MADE_UP)
        room = limit - budget.length(added, self.tokenizer)
        fitted = self.fit(lambda room: self.cut(summary, room, budget) + added, room, limit, budget)
        if fitted is None or fitted == added:
            raise NothingToWriteError(_NO_ROOM)
        return fitted


def _exchange(different: Sequence[str], chance: random.Random) -> dict[str, str]:
    """Puts another in the place of each, by lot; empty where there are fewer than two."""
    order = chance.sample(different, len(different))
    return dict(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else {}
