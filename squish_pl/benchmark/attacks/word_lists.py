"""Attacks on single words: lists of them, and the opening with every n-th word changed."""

from __future__ import annotations

import abc
import re
from collections import Counter
from collections.abc import Iterable

from squish_pl.benchmark.attacks.base import CutAttack
from squish_pl.benchmark.attacks.names import name_spans
from squish_pl.benchmark.contenders.baselines import NothingToWriteError
from squish_pl.benchmark.sentences import words
from squish_pl.budget import Budget
from squish_pl.types import Document

_STOP_WORDS = (
    "a about after all also an and any are as at be because been before being but by can could did do does for from "
    "had has have he her here him his how i if in into is it its just may me might more most my no nor not of off on "
    "one only or other our out over own same shall she should so some such than that the their them then there these "
    "they this those to too under until up very was we were what when where which while who whom whose why will with "
    "would you your"
)
_SAY_LITTLE = frozenset(_STOP_WORDS.split())
_ENGLISH = 0.2  # share of stop words from which a text is taken for English; English news have two fifths
_SHORT = 3  # letters: what words of a text in another language are left out up to


class EveryWord(CutAttack):
    """The opening with one word in `every` changed.

    Args:
        name: As the leaderboard shows it.
        every: Words are counted from 1; those whose number it divides are changed.
    """

    change = ""  # for its name

    def __init__(self, name: str | None = None, every: int = 3) -> None:
        super().__init__(name or f"1 word in {every} {self.change}")
        self.every = every

    @property
    def settings(self) -> str:
        return f"every {self.every}"

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        few = [] if self.every >= 2 else [f"every must be at least 2, but is {self.every}"]
        return super().problems() + few

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """The whole document, changed; white space stays where it is."""
        parts = re.split(r"(\s+)", document.text.strip())
        found, gaps = parts[::2], [*parts[1::2], ""]
        chosen = range(self.every - 1, len(found), self.every)
        self.apply(found, gaps, chosen)
        return "".join(part for pair in zip(found, gaps, strict=True) for part in pair)

    @abc.abstractmethod
    def apply(self, found: list[str], gaps: list[str], chosen: Iterable[int]) -> None:
        """Changes words in place.

        Args:
            found: The words, with what punctuation hangs on them.
            gaps: The white space behind each.
            chosen: Which words.
        """


class SwappedWords(EveryWord):
    """The opening with one word in `every` and the next in each other's place: buys n-grams that are not copied."""

    change = "swapped"

    def apply(self, found: list[str], gaps: list[str], chosen: Iterable[int]) -> None:
        """Swaps; the last word has no next."""
        for i in chosen:
            found[i : i + 2] = reversed(found[i : i + 2])


class DroppedWords(EveryWord):
    """The opening without one word in `every`: buys n-grams that are not copied, and reaches further."""

    change = "dropped"

    def apply(self, found: list[str], gaps: list[str], chosen: Iterable[int]) -> None:
        """Empties words and the white space behind them."""
        for i in chosen:
            found[i] = gaps[i] = ""


class CapitalWords(EveryWord):
    """The opening with one word in `every` in capitals: buys n-grams that are not copied, every word still there."""

    change = "in capitals"

    def apply(self, found: list[str], gaps: list[str], chosen: Iterable[int]) -> None:
        """Capitals."""
        for i in chosen:
            found[i] = found[i].upper()


class RareWords(CutAttack):
    """The document's words, those that occur once before those that occur twice, long ones first: buys surprises."""

    title = "rare words"

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """Each word once as it first stands, with commas between; capitals make no other word."""
        found = words(document.text)
        times = Counter(word.casefold() for word in found)
        ranked = sorted(_different(found), key=lambda word: (times[word.casefold()], -len(word)))
        return ", ".join(_some(ranked, "no words"))


class LongWords(CutAttack):
    """The document's long words in their order: buys the tokens that tell most, in no sentence.

    Args:
        name: As the leaderboard shows it.
        least: Letters of the shortest.
    """

    title = "long words"

    def __init__(self, name: str | None = None, least: int = 7) -> None:
        super().__init__(name)
        self.least = least

    @property
    def settings(self) -> str:
        return f"least {self.least}"

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """Each word once, with semicolons between."""
        found = _different(word for word in words(document.text) if len(word) >= self.least)
        return "; ".join(_some(found, f"no word of {self.least} letters or more"))


class NoStopWords(CutAttack):
    """The opening without the words that say little: buys room.

    Those of a short list of English ones are left out; in a text with few of these, words of up to three letters.
    """

    title = "no stop words"

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """What is left of the document, with spaces between."""
        found = words(document.text)
        english = sum(word.casefold() in _SAY_LITTLE for word in found) >= _ENGLISH * len(found)

        def says_much(part: str) -> bool:
            bare = "".join(words(part))  # a number has none, and says much
            return not bare or (bare.casefold() not in _SAY_LITTLE if english else len(bare) > _SHORT)

        return " ".join(_some(filter(says_much, document.text.split()), "nothing but stop words"))


class NamesOnly(CutAttack):
    """The document's names, each once: buys its rarest tokens, and says nothing of them."""

    needs = ("nltk",)
    title = "names only"

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """Names in their order, with commas between."""
        found = _different(document.text[start:end] for start, end in name_spans(document.text))
        return ", ".join(_some(found, "no names"))


def _different(found: Iterable[str]) -> list[str]:
    """Each once, as it first stands; capitals make no difference."""
    first: dict[str, str] = {}
    for word in found:
        first.setdefault(word.casefold(), word)
    return list(first.values())


def _some(found: Iterable[str], otherwise: str) -> list[str]:
    """All of them.

    Raises:
        NothingToWriteError: There are none.
    """
    listed = list(found)
    if not listed:
        raise NothingToWriteError(f"the document has {otherwise}")
    return listed
