"""Attacks that copy passages: from elsewhere, in disorder, again and again, or of another document."""

from __future__ import annotations

import json
from collections.abc import Sequence

from squish_pl.benchmark.attacks.base import CutAttack, lot
from squish_pl.benchmark.contenders.base import distinct
from squish_pl.benchmark.contenders.baselines import NothingToWriteError, highlights_of, whole_sentences
from squish_pl.benchmark.records import Task, text_hash
from squish_pl.benchmark.sentences import split_sentences
from squish_pl.budget import Budget
from squish_pl.types import Document


class MiddleSlice(CutAttack):
    """A piece out of the document's middle: buys the tokens it copies, where no opening helps."""

    title = "middle slice"

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """The document from where as much is left out before the slice as behind it."""
        text = document.text.strip()
        before = self.cut(text, (budget.length(text, self.tokenizer) - limit) // 2, budget)
        return text[len(before) :]


class ShuffledSentences(CutAttack):
    """The document's sentences in any order, and never its first one first: buys copies without a thread.

    Args:
        name: As the leaderboard shows it.
        seed: With the document it decides the order.
    """

    needs = ("nltk",)
    title = "sentences shuffled"

    def __init__(self, name: str | None = None, seed: int = 0) -> None:
        super().__init__(name)
        self.seed = seed

    @property
    def settings(self) -> str:
        return f"seed {self.seed}"

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """All sentences, joined by spaces."""
        sentences = split_sentences(document.text)
        if len(sentences) < 2:
            raise NothingToWriteError("the document has fewer than two sentences")
        order = lot(self.seed, document).sample(range(len(sentences)), len(sentences))
        if order[0] == 0:
            order = order[1:] + order[:1]
        return " ".join(sentences[index] for index in order)


class RepeatedSentence(CutAttack):
    """One sentence again and again, the longest that the budget holds twice: buys length, with few tokens copied."""

    needs = ("nltk",)
    title = "sentence repeated"

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """The sentence, more often than the budget holds."""
        sentences = sorted(whole_sentences(document.text), key=len, reverse=True)
        fitting = (s for s in sentences if 0 < budget.length(f"{s} {s}", self.tokenizer) <= limit)
        text = next(fitting, None)
        if text is None:
            raise NothingToWriteError("the budget holds no sentence of the document twice")
        while budget.length(text, self.tokenizer) <= limit:
            text = f"{text} {text}"
        return text


class OtherSummary(CutAttack):
    """What people wrote of the next document, or that document's opening: buys what any text of the kind saves."""

    title = "another's summary"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self._others: dict[str, str] = {}  # by document hash

    @property
    def settings(self) -> str:
        """Which summary stands for which document: after `tasks`."""
        return text_hash(json.dumps(self._others, sort_keys=True))

    def tasks(self, documents: Sequence[Document], budgets: Sequence[str]) -> list[Task]:
        """One for each text and budget; after the last document comes the first."""
        different = distinct(documents)
        following = different[1:] + different[:1]
        self._others = {
            text_hash(document.text): _summary(other)
            for document, other in zip(different, following, strict=True)
            if other is not document
        }
        return super().tasks(documents, budgets)

    def text(self, document: Document, limit: int, budget: Budget) -> str:
        """The other's summary."""
        other = self._others.get(text_hash(document.text))
        if other is None:
            raise NothingToWriteError("there is no other document")
        return other


def _summary(document: Document) -> str:
    try:
        return highlights_of(document)
    except NothingToWriteError:
        return document.text
