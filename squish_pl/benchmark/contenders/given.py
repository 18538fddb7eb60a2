"""Summaries that were made elsewhere, from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.records import Answer, Outcome, Task, text_hash
from squish_pl.data.filters import document_id
from squish_pl.errors import BudgetError, DataError
from squish_pl.score.budget import Budget
from squish_pl.score_command import numbered_summaries, read_text
from squish_pl.tokens import whole_characters
from squish_pl.types import Document

_FIELDS = ("id", "url", "document")


class _Line(NamedTuple):
    """A line of the file: a summary, for one budget or (None) for all of them."""

    number: int
    summary: str | None
    budget: str | None
    sample: int
    fields: dict[str, Any]


class GivenSummaries(Contender):
    """Gives the summaries of a JSON lines file.

    Each line has the field `summary` (null for an answer that could not be parsed) and tells its document by `id`,
    by `url` or by `document`, the document's full text. Where not every line has the same one of these, the lines
    stand in the documents' order, those of each budget and sample by themselves. `budget` is optional: a line
    without one serves every budget that has no line of its own. `sample` counts from 0, which is what it is where
    it is not there.

    Args:
        name: As the leaderboard shows it.
        path: The file.

    Raises:
        DataError: The file cannot be read or is empty, or a line makes no sense.
    """

    def __init__(self, name: str, path: str) -> None:
        self.path = path
        self._lines = self._read()
        super().__init__(name, samples=1 + max(line.sample for line in self._lines))
        self._summaries: dict[tuple[str, str | None, int], str | None] | None = None

    @property
    def identity(self) -> str:
        return f"GivenSummaries {self._hash}"

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Finds each line's document; called with all tasks of a run, whether or not they are answered already.

        Raises:
            DataError: A line's document is not there, or two lines are for the same document, budget and sample.
        """
        documents = list(dict.fromkeys(task.document for task in tasks))
        summaries: dict[tuple[str, str | None, int], str | None] = {}
        taken: dict[tuple[str, str | None, int], int] = {}
        for line, document in zip(self._lines, self._documents_of_lines(documents), strict=True):
            key = (text_hash(document.text), line.budget, line.sample)
            if key in taken:
                raise self._error(
                    line,
                    f"line {taken[key]} is for the same document, budget ({line.budget or 'any'}) and sample "
                    f"({line.sample}): leave one out, or number them with the field sample",
                )
            taken[key] = line.number
            summaries[key] = line.summary
        self._summaries = summaries

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers in order; a document that the file leaves out fails."""
        if self._summaries is None:
            self.prepare(tasks)
        assert self._summaries is not None
        for task in tasks:
            keys = [(task.document_hash, b, task.sample) for b in (str(Budget.parse(task.budget)), None)]
            found = next((key for key in keys if key in self._summaries), None)
            if found is None:
                reason = f"{self.path} has no summary for this document, budget and sample"
                yield task, Answer(outcome=Outcome.FAILED, reason=reason)
            elif (summary := self._summaries[found]) is None:
                yield task, Answer(outcome=Outcome.UNPARSABLE, reason=f"{self.path} has null as its summary")
            else:
                yield task, Answer(outcome=Outcome.WRITTEN, summary=summary)

    def _read(self) -> list[_Line]:
        text = read_text(self.path)
        records = numbered_summaries(self.path, text)
        if not records:
            raise DataError(
                f'{self.path} holds no summary: expected {{"summary": "text" or null, ...}} on each of its lines'
            )
        self._hash = text_hash(text)
        return [self._line(number, record) for number, record in records]

    def _line(self, number: int, record: dict[str, Any]) -> _Line:
        line = _Line(number, record["summary"], None, 0, {f: record[f] for f in _FIELDS if record.get(f)})
        sample = record.get("sample") or 0
        if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
            raise self._error(line, f"expected sample to be 0, 1, ..., but got {sample!r}")
        try:
            budget = str(Budget.parse(record["budget"])) if record.get("budget") else None
        except BudgetError as error:
            raise self._error(line, str(error)) from None
        return line._replace(budget=budget, sample=sample)

    def _documents_of_lines(self, documents: Sequence[Document]) -> list[Document]:
        field = next((f for f in _FIELDS if all(f in line.fields for line in self._lines)), None)
        return self._in_order(documents) if field is None else self._by_field(documents, field)

    def _by_field(self, documents: Sequence[Document], field: str) -> list[Document]:
        known: dict[str, Document] = {}
        doubtful: set[str] = set()
        for document in documents:
            # the text may have been cut since, but the id is that of the whole one
            keys = (document.text, document.id) if field == "document" else (getattr(document, field),)
            for key in keys:
                if known.setdefault(key, document).text != document.text:
                    doubtful.add(key)
        found = []
        for line in self._lines:
            value = whole_characters(str(line.fields[field]))
            key = document_id(value) if field == "document" and value not in known else value
            if key not in known:
                raise self._error(
                    line,
                    f"none of the {len(documents)} documents has the {'text' if field == 'document' else field} "
                    f"{value[:60]!r}" + (" (a document's id is the hash of its text)" if field == "id" else ""),
                )
            if key in doubtful:
                others = " or ".join(f for f in _FIELDS if f != field)
                raise self._error(
                    line, f"two documents have the {field} {value[:60]!r}: tell the documents by {others}"
                )
            found.append(known[key])
        return found

    def _in_order(self, documents: Sequence[Document]) -> list[Document]:
        counts: dict[tuple[str | None, int], int] = {}
        found = []
        for line in self._lines:
            place = counts.setdefault((line.budget, line.sample), 0)
            if place < len(documents):
                found.append(documents[place])
            counts[line.budget, line.sample] += 1
        wrong = next(((key, count) for key, count in counts.items() if count != len(documents)), None)
        if wrong is not None:
            (budget, sample), count = wrong
            raise DataError(
                f"{self.path}: expected a summary for each of the {len(documents)} documents, but got {count} for "
                f"budget {budget or 'any'} and sample {sample}; tell each one's document by {', '.join(_FIELDS)}, or "
                "give one line for each document in order"
            )
        return found

    def _error(self, line: _Line, problem: str) -> DataError:
        return DataError(f"{self.path} line {line.number}: {problem}")
