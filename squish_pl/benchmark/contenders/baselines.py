"""Contenders without a model, to be shown beside every one that has one."""

from __future__ import annotations

import abc
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from squish_pl import __version__
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.records import Answer, Outcome, Task, text_hash
from squish_pl.benchmark.sentences import split_sentences, words
from squish_pl.budget import Budget
from squish_pl.lm.tokens import whole_characters
from squish_pl.score.baselines import lead
from squish_pl.types import Document

_EXTRA = "pip install 'squish-pl[benchmark]'"
_FEWEST_WORDS = 3  # of a sentence; what has fewer is a byline, a number, a caption


class NothingToWriteError(Exception):
    """A document lacks what a baseline makes its summaries of; the text says what."""


class Baseline(Contender):
    """A contender that writes one summary after the other without a model.

    Attributes:
        needs: Libraries that it cannot do without.
    """

    is_baseline = True
    is_free = True
    needs: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Class and settings, and the version of this package, whose code decides the rest."""
        return f"{type(self).__name__} {self.settings}, squish-pl {__version__}"

    @property
    def settings(self) -> str:
        """What decides its summaries besides the class."""
        return ""

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        missing = [name for name in self.needs if find_spec(name) is None]
        return super().problems() + ([f"it needs {' and '.join(missing)}: {_EXTRA}"] if missing else [])

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers in order."""
        for task in tasks:
            start = time.perf_counter()
            try:
                summary = self.write(task, Budget.parse(task.budget))
            except NothingToWriteError as reason:
                yield task, Answer(outcome=Outcome.FAILED, reason=str(reason))
            else:
                yield task, Answer(outcome=Outcome.WRITTEN, summary=summary, seconds=time.perf_counter() - start)

    @abc.abstractmethod
    def write(self, task: Task, budget: Budget) -> str:
        """The summary; empty where the budget allows nothing.

        Raises:
            NothingToWriteError: The document lacks what it is made of; the task has failed.
        """

    def cut(self, text: str, limit: int, budget: Budget) -> str:
        """The beginning of a text that is at most `limit` long, counted as the budget counts."""
        return budget.cut(text.lstrip(), max(limit, 0), self.tokenizer)

    def fit(self, write: Callable[[int], str], room: int, limit: int, budget: Budget) -> str | None:
        """What is written of a text cut to so much room that all of it fits; None where there is no room.

        Args:
            write: From the room, in what the budget counts, to the summary.
            room: To begin with.
            limit: Of the summary.
            budget: Says how both are counted.
        """
        while room > 0:
            candidate = write(room)
            over = budget.length(candidate, self.tokenizer) - limit
            if over <= 0:
                return candidate
            room -= over  # what stands between the parts, and what joined tokens have become
        return None


class Opening(Baseline):
    """The document's own first words: what every summary has to beat.

    Args:
        name: As the leaderboard shows it; by default "opening", with its share.
        share: Of the budget that is used, above 0 and at most 1. Models seldom use all of theirs.
    """

    def __init__(self, name: str | None = None, share: float = 1.0) -> None:
        super().__init__(name or ("opening" if share == 1 else f"opening, {share:.0%}"))
        self.share = float(share)

    @property
    def settings(self) -> str:
        return f"{self.share}"

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        out = [] if 0 < self.share <= 1 else [f"share must be above 0 and at most 1, but is {self.share}"]
        return super().problems() + out

    def write(self, task: Task, budget: Budget) -> str:
        """The opening, cut to its share of the budget."""
        value = budget.value * Fraction(str(self.share))  # "0.7" is exactly 7/10
        return lead(task.document.text, Budget(value, budget.unit), self.tokenizer)


class Sentences(Baseline):
    """As many of the document's sentences as fit the budget, in the document's order.

    They are taken from the best down; one that does not fit any more is passed over for the next that does. If they
    use less than half of the budget in the end, the best of those passed over is cut to what is left, so that a
    small budget is not lost to sentences that are a little too long for it. Those of fewer than three words are left
    out, unless there are no others.
    """

    needs: tuple[str, ...] = ("nltk",)

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers document by document: what is remembered of the last one serves all its budgets."""
        return super().summarise(sorted(tasks, key=lambda task: task.document.text))

    def write(self, task: Task, budget: Budget) -> str:
        """The sentences that fit, joined by spaces."""
        sentences = whole_sentences(task.document.text)
        limit = budget.limit(task.document.text, self.tokenizer)
        chosen: dict[int, str] = {}
        passed_over = []
        for index in self.rank(sentences, task):
            candidate = chosen | {index: sentences[index]}
            if budget.length(_joined(candidate), self.tokenizer) <= limit:
                chosen = candidate
            else:
                passed_over.append(index)
        room = limit - budget.length(_joined(chosen), self.tokenizer)
        if passed_over and 2 * room > limit:
            best = passed_over[0]
            filled = self.fit(
                lambda room: _joined(chosen | {best: self.cut(sentences[best], room, budget)}), room, limit, budget
            )
            return _joined(chosen) if filled is None else filled
        return _joined(chosen)

    @abc.abstractmethod
    def rank(self, sentences: Sequence[str], task: Task) -> list[int]:
        """Indices of the sentences, best first."""


class BestSentences(Sentences):
    """The sentences most like the others: TextRank (Mihalcea and Tarau 2004), with English stems and stop words.

    Args:
        name: As the leaderboard shows it.
    """

    needs = ("nltk", "sumy")

    def __init__(self, name: str = "best sentences") -> None:
        super().__init__(name)

    @property
    def settings(self) -> str:
        return f"TextRank, sumy {version('sumy')}, nltk {version('nltk')}"

    def rank(self, sentences: Sequence[str], task: Task) -> list[int]:
        """By TextRank, the earlier of two equals first."""
        return list(_by_text_rank(tuple(sentences)))


class RandomSentences(Sentences):
    """Sentences by lot: how much of a score is owed to being of the document at all.

    Args:
        name: As the leaderboard shows it.
        samples: Draws for each document and budget.
        seed: With the document and the number of the sample it decides the draw.
    """

    def __init__(self, name: str = "random sentences", samples: int = 1, seed: int = 0) -> None:
        super().__init__(name, samples)
        self.seed = seed

    @property
    def settings(self) -> str:
        return f"seed {self.seed}, nltk {version('nltk')}"

    def rank(self, sentences: Sequence[str], task: Task) -> list[int]:
        """By lot."""
        lot = random.Random(f"{self.seed} {task.document_hash} {task.sample}")
        return lot.sample(range(len(sentences)), len(sentences))


class Highlights(Contender):
    """What people wrote of the documents. One without fails, so that it counts as not covered and never as zero.

    Args:
        name: As the leaderboard shows it.
    """

    is_baseline = True
    is_free = True

    def __init__(self, name: str = "highlights") -> None:
        super().__init__(name)
        self._hash = ""

    @property
    def identity(self) -> str:
        """Which highlights are whose: after `tasks`."""
        return f"Highlights {self._hash}"

    def tasks(self, documents: Sequence[Document], budgets: Sequence[str]) -> list[Task]:
        """One for each text and budget; of a text that comes twice, the first one's highlights count."""
        found = super().tasks(documents, budgets)
        self._hash = highlights_hash(found)
        return found

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers in order."""
        for task in tasks:
            try:
                yield task, Answer(outcome=Outcome.WRITTEN, summary=highlights_of(task.document))
            except NothingToWriteError as reason:
                yield task, Answer(outcome=Outcome.FAILED, reason=str(reason))


def highlights_of(document: Document) -> str:
    """What people wrote of a document.

    Raises:
        NothingToWriteError: The data has nothing.
    """
    if text := whole_characters(document.highlights).strip():
        return text
    raise NothingToWriteError("the data has no highlights of this document")


def highlights_hash(tasks: Sequence[Task]) -> str:
    """A short hash of which highlights are whose."""
    said = {task.document_hash: task.document.highlights for task in tasks}
    return text_hash(json.dumps(said, sort_keys=True))


def _joined(parts: dict[int, str]) -> str:
    """Sentences, by their places in the document, as one text."""
    return " ".join(parts[index] for index in sorted(parts) if parts[index])


@lru_cache(maxsize=1)
def whole_sentences(text: str) -> tuple[str, ...]:
    """What summaries are made of: the sentences of a text, without fragments if it has any others."""
    sentences = split_sentences(text)
    return tuple([s for s in sentences if len(words(s)) >= _FEWEST_WORDS] or sentences)


@lru_cache(maxsize=1)
def _by_text_rank(sentences: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the sentences, best first, the earlier of two equals before the other."""
    # imported late: the extra is needed for no other work
    from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence

    paragraph = Paragraph([Sentence(text, _Words()) for text in sentences])
    ranks = _text_rank().rate_sentences(ObjectDocumentModel([paragraph])) if sentences else {}
    ratings = [float(ranks[sentence]) for sentence in paragraph.sentences]
    return tuple(sorted(range(len(sentences)), key=lambda i: -ratings[i]))


@cache
def _text_rank() -> Any:
    from sumy.nlp.stemmers import Stemmer
    from sumy.summarizers.text_rank import TextRankSummarizer
    from sumy.utils import get_stop_words

    text_rank = TextRankSummarizer(Stemmer("english"))
    text_rank.stop_words = get_stop_words("english")
    return text_rank


class _Words:
    """Words of a sentence for sumy, whose own way needs a download of nltk data."""

    def to_words(self, sentence: str) -> tuple[str, ...]:
        return tuple(words(sentence))
