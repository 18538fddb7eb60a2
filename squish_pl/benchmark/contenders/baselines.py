"""Contenders without a model, to be shown beside every one that has one."""

from __future__ import annotations

import abc
import random
import re
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.benchmark.sentences import split_sentences
from squish_pl.score.baselines import lead
from squish_pl.score.budget import Budget, BudgetUnit
from squish_pl.tokens import vocabulary_hash, whole_characters

_EXTRA = "pip install 'squish-pl[benchmark]'"


class Baseline(Contender):
    """A contender that writes one summary after the other without a model."""

    is_baseline = True
    is_free = True

    @property
    def identity(self) -> str:
        return f"{type(self).__name__} {self.settings}, tokenizer {self._tokenizer_hash}"

    @property
    def settings(self) -> str:
        """What decides its summaries besides the class and the tokenizer."""
        return ""

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers in order."""
        for task in tasks:
            start = time.perf_counter()
            summary = self.write(task, Budget.parse(task.budget))
            yield task, Answer(outcome=Outcome.WRITTEN, summary=summary, seconds=time.perf_counter() - start)

    @abc.abstractmethod
    def write(self, task: Task, budget: Budget) -> str:
        """The summary; empty where the budget allows nothing."""

    @property
    def _tokenizer_hash(self) -> str:
        return "none" if self.tokenizer is None else vocabulary_hash(self.tokenizer)


class Opening(Baseline):
    """The document's own first words: what every summary has to beat.

    Args:
        name: As the leaderboard shows it; by default "opening", with its share.
        share: Of the budget that is used, above 0 and at most 1. Models seldom use all of theirs.
    """

    def __init__(self, name: str | None = None, share: float = 1.0) -> None:
        super().__init__(name or ("opening" if share == 1 else f"opening, {share:.0%}"))
        self.share = Fraction(str(share))  # "0.7" is exactly 7/10

    @property
    def settings(self) -> str:
        return f"{self.share}"

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        return [] if 0 < self.share <= 1 else [f"share must be above 0 and at most 1, but is {float(self.share)}"]

    def write(self, task: Task, budget: Budget) -> str:
        """The opening, cut to its share of the budget."""
        return lead(task.document.text, Budget(budget.value * self.share, budget.unit), self.tokenizer)


class Sentences(Baseline):
    """As many of the document's sentences as fit the budget, in the document's order.

    They are taken from the best down; one that does not fit any more is passed over for the next that does. Where
    not even one fits, the best is cut to the budget.
    """

    def problems(self) -> list[str]:
        """What is wrong with its settings, a sentence each."""
        missing = [name for name in ("nltk", "sumy") if find_spec(name) is None]
        return super().problems() + ([f"it needs {' and '.join(missing)}: {_EXTRA}"] if missing else [])

    def write(self, task: Task, budget: Budget) -> str:
        """The sentences that fit, joined by spaces."""
        text = task.document.text
        sentences = split_sentences(text)
        limit = budget.limit(text, self.tokenizer)
        ranking = self.rank(sentences, task)
        chosen: list[int] = []
        for index in ranking:
            candidate = sorted([*chosen, index])
            if budget.length(" ".join(sentences[i] for i in candidate), self.tokenizer) <= limit:
                chosen = candidate
        if ranking and not chosen:
            unit = BudgetUnit.TOKENS if budget.unit.counts_tokens else BudgetUnit.CHARACTERS
            return lead(sentences[ranking[0]], Budget(Fraction(limit), unit), self.tokenizer)
        return " ".join(sentences[i] for i in chosen)

    @abc.abstractmethod
    def rank(self, sentences: Sequence[str], task: Task) -> list[int]:
        """Indices of the sentences, best first."""


class BestSentences(Sentences):
    """The sentences most like the others: TextRank (Mihalcea and Tarau 2004), with English stems and stop words.

    Args:
        name: As the leaderboard shows it.
    """

    def __init__(self, name: str = "best sentences") -> None:
        super().__init__(name)

    @property
    def settings(self) -> str:
        return f"TextRank, sumy {version('sumy')}, nltk {version('nltk')}"

    def rank(self, sentences: Sequence[str], task: Task) -> list[int]:
        """By TextRank, the earlier of two equals first."""
        # imported late: the extra is needed for no other work
        from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence

        paragraph = Paragraph([Sentence(text, _Words()) for text in sentences])
        ranks = self._text_rank.rate_sentences(ObjectDocumentModel([paragraph])) if sentences else {}
        ratings = [float(ranks[sentence]) for sentence in paragraph.sentences]
        return sorted(range(len(sentences)), key=lambda i: -ratings[i])

    @cached_property
    def _text_rank(self) -> Any:
        from sumy.nlp.stemmers import Stemmer
        from sumy.summarizers.text_rank import TextRankSummarizer
        from sumy.utils import get_stop_words

        text_rank = TextRankSummarizer(Stemmer("english"))
        text_rank.stop_words = get_stop_words("english")
        return text_rank


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

    @property
    def identity(self) -> str:
        return "Highlights"

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers in order."""
        for task in tasks:
            text = whole_characters(task.document.highlights).strip()
            if text:
                yield task, Answer(outcome=Outcome.WRITTEN, summary=text)
            else:
                yield task, Answer(outcome=Outcome.FAILED, reason="the data has no highlights of this document")


class _Words:
    """Words of a sentence for sumy, whose own way needs a download of nltk data."""

    def to_words(self, sentence: str) -> tuple[str, ...]:
        return tuple(re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", sentence))
