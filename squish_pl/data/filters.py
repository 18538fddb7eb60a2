"""Records to documents, and which documents are used for what."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget, BudgetUnit
from squish_pl.data.readers import EMPTY, HOPELESS, PROBLEM, with_text
from squish_pl.data.skipped import Skipped
from squish_pl.errors import DataError
from squish_pl.lm.cutting import cut_to_tokens
from squish_pl.lm.tokens import whole_characters
from squish_pl.types import Document

_ID_DIGITS = 16


def document_id(text: str) -> str:
    """A name for a text that is the same in every run: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:_ID_DIGITS]


def make_document(record: Mapping[str, Any]) -> Document:
    """The document of a record; its id is the hash of the text."""
    text = whole_characters(record["text"])
    name = record.get("id")
    return Document(
        text=text,
        id=document_id(text),
        url=whole_characters(str(record.get("url") or "")),
        name="" if name is None else whole_characters(str(name)),
        highlights=_joined(record.get("highlights")),
    )


def cut_document(document: Document, tokenizer: PreTrainedTokenizerBase | None, max_tokens: int | None) -> Document:
    """The document with its text cut to `max_tokens` tokens; the same one where there is no limit."""
    if tokenizer is None or max_tokens is None:
        return document
    return dataclasses.replace(document, text=cut_to_tokens(document.text, tokenizer, max_tokens))


def _joined(highlights: Any) -> str:
    """One text: some data has a list of sentences."""
    lines = highlights if isinstance(highlights, list) else [highlights]
    return whole_characters("\n".join(line.strip() for line in lines if isinstance(line, str)))


def read_documents(source: datasets.IterableDataset, skipped: Skipped | None = None) -> Iterator[Document]:
    """Yields all documents of a source from the place where it stands.

    Args:
        source: Its records.
        skipped: Counts the records that cannot be read, and judges whether they are too many.

    Raises:
        DataError: A record of a file cannot be read and nobody counts, or there are too many such records, or the
            connection to the hub broke off.
    """
    # `iter` and not `__iter__`: in a worker process the latter would hand out only a part of the shards.
    rows_of = source.iter(batch_size=1)
    while True:
        try:
            rows = next(rows_of)
        except StopIteration:
            return
        except (ConnectionError, TimeoutError) as error:
            raise DataError(
                f"the connection to the documents broke off ({error}): start again (training with --ckpt_path last)"
            ) from None
        record = {name: values[0] for name, values in rows.items()}
        problem = _problem_of(record)
        if not problem:
            if skipped is not None:
                skipped.good()
            yield make_document(record)
        elif skipped is not None:
            skipped.add(problem, bool(record.get(HOPELESS)))
        elif PROBLEM in record:
            if not record.get(EMPTY):
                raise DataError(problem)
        else:
            yield make_document({**record, "text": ""})  # the hub has such records: blank ones


def _problem_of(record: Mapping[str, Any]) -> str:
    """What is wrong with a record; a file's says it itself, the hub's have no lines."""
    if PROBLEM in record:
        return str(record[PROBLEM])
    return str(with_text(record).get(PROBLEM, ""))


@dataclass(frozen=True)
class HeldOut:
    """The documents that must not be trained on; ask with `document.id in held_out`.

    Attributes:
        ids: Named documents.
        share: Share of all documents, chosen by their ids, so a document is held out in every run or in none.
    """

    ids: frozenset[str] = frozenset()
    share: float = 0.0

    def __contains__(self, id: str) -> bool:
        return id in self.ids or int(id, 16) < self.share * 16**_ID_DIGITS


@dataclass(frozen=True)
class Selection:
    """The length a document must have.

    Attributes:
        min_characters: Length of the shortest document, in characters of the uncut text.
        max_characters: Length of the longest; None for no limit.
        max_with_summary: Characters that a document has together with a summary of any of `budgets`, at most; None for
            no limit.
        budgets: Those in characters count for that.
    """

    min_characters: int = 0
    max_characters: int | None = None
    max_with_summary: int | None = None
    budgets: tuple[Budget, ...] = ()

    def objection(self, document: Document) -> str | None:
        """Why the document is not used, as the end of a sentence about such documents; None where it is used."""
        if len(document.text) < self.min_characters:
            return f"shorter than min_characters={self.min_characters}"
        if self.max_characters is not None and len(document.text) > self.max_characters:
            return f"longer than max_characters={self.max_characters}"
        if self.max_with_summary is not None and self._with_summary(len(document.text)) > self.max_with_summary:
            return f"with a summary longer than max_with_summary={self.max_with_summary}"
        if not document.text.strip():
            return "blank"
        return None

    def _with_summary(self, length: int) -> Fraction:
        """Exact, a part of a character included: 10 % of 1,005 characters are 100.5."""
        counted = (budget for budget in self.budgets if budget.unit.absolute is BudgetUnit.CHARACTERS)
        return length + max((b.value * length if b.unit.is_share else b.value for b in counted), default=Fraction(0))
