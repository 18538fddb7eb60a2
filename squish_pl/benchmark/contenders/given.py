"""Summaries that were made elsewhere, from a file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from squish_pl.benchmark.contenders.base import Contender, distinct
from squish_pl.benchmark.records import Answer, Outcome, Task, text_hash
from squish_pl.budget import Budget
from squish_pl.data.filters import document_id
from squish_pl.data.summaries import NAMES, document_names, numbered_summaries, read_text, run_summaries
from squish_pl.errors import BudgetError, DataError
from squish_pl.lm.tokens import whole_characters
from squish_pl.types import Document

log = logging.getLogger(__name__)

_SHOWN = 60  # characters of what a message quotes


class _Line(NamedTuple):
    """A line of the file: a summary, for one budget or (None) for all of them.

    Attributes:
        names: What it tells its document by; of a text only the hash, as texts are long and files have many.
        opening: The beginning of that text, for messages.
    """

    number: int
    summary: str | None
    budget: str | None
    sample: int
    names: dict[str, str]
    opening: str


class GivenSummaries(Contender):
    """Gives the summaries of a JSON lines file, or those that a training run wrote in validation.

    Each line has the field `summary` (null for an answer that could not be parsed) and tells its document by `id`,
    by `url` or by `document`, the document's full text. Where not every line has the same one of these, the lines
    stand in the documents' order, those of each budget and sample by themselves. `budget` is optional: a line
    without one serves every budget that has no line of its own for that sample. `sample` counts from 0, which is
    what it is where it is not there. In order, a document that comes twice has a line for each time, and the second
    one is the next sample that is free.

    Args:
        path: The file, or a training run's folder (`checkpoint.dirpath`); it is read when it is first needed.
        name: As the leaderboard shows it; by default the file's.
        strict: Whether every document must have a summary, which must be asked for only under the budgets it is for,
            and every line a document; otherwise what the file leaves out has failed, and lines that name other
            documents are passed over.
        when: Of a training run: before training, after it with the best adapter, or with the last one.
    """

    is_free = True

    def __init__(
        self,
        path: str,
        name: str | None = None,
        strict: bool = False,
        when: Literal["before", "after", "last"] = "after",
    ) -> None:
        own = Path(path).resolve().name if Path(path).is_dir() else Path(path).stem
        super().__init__(name or (own if when == "after" else f"{own}, {when}"))
        self.path, self.strict, self.when = path, strict, when
        self._summaries: dict[tuple[str, str | None, int], str | None] = {}
        self._hash = ""

    @property
    def identity(self) -> str:
        """Which summary is whose: after `tasks`, since lines may find other documents in another run."""
        return f"GivenSummaries {self._hash}"

    def problems(self) -> list[str]:
        """Whether the file cannot be read or is empty, or a line makes no sense."""
        try:
            return super().problems() if self._lines else []
        except DataError as error:
            return [str(error)]

    @property
    def budgets(self) -> list[str | None]:
        """The budgets that lines name, None for those that name none; in order.

        Raises:
            DataError: The file cannot be read or is empty, or a line makes no sense.
        """
        return list(dict.fromkeys(line.budget for line in self._lines))

    def tasks(self, documents: Sequence[Document], budgets: Sequence[str]) -> list[Task]:
        """As many samples as there are lines; where there is none, one that fails.

        Raises:
            DataError: The file cannot be read; two lines are for the same document, budget and sample; no line's
                document is there; or, if strict, one line's is not, or a document has no line.
        """
        different = {text_hash(document.text): document for document in distinct(documents)}
        self._match(documents, different)
        self._warn_of_other_budgets(budgets)
        samples: dict[tuple[str, str | None], set[int]] = {}
        for hashed, budget, sample in self._summaries:
            samples.setdefault((hashed, budget), set()).add(sample)
        found = []
        for budget in budgets:
            for hashed, document in different.items():
                numbers = samples.get((hashed, budget), set()) | samples.get((hashed, None), set())
                if not numbers and not self.strict:
                    numbers = {0}
                found += [Task(document, budget, sample) for sample in sorted(numbers)]
        return found

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers in order; a document that the file leaves out fails."""
        for task in tasks:
            keys = [(task.document_hash, budget, task.sample) for budget in (task.budget, None)]
            found = next((key for key in keys if key in self._summaries), None)
            if found is None:
                reason = f"{self.path} has no summary for this document, budget and sample"
                yield task, Answer(outcome=Outcome.FAILED, reason=reason)
            elif (summary := self._summaries[found]) is None:
                yield task, Answer(outcome=Outcome.UNPARSABLE, reason=f"{self.path} has null as its summary")
            else:
                yield task, Answer(outcome=Outcome.WRITTEN, summary=summary)

    @cached_property
    def _lines(self) -> list[_Line]:
        if Path(self.path).expanduser().is_dir():
            records = run_summaries(self.path, self.when)
        else:
            records = numbered_summaries(self.path, read_text(self.path))
        if not records:
            raise DataError(
                f'{self.path} holds no summary: expected {{"summary": "text" or null, ...}} on each of its lines'
            )
        return [self._line(number, record) for number, record in records]

    def _line(self, number: int, record: dict[str, Any]) -> _Line:
        sample = record.get("sample")
        if sample is not None and (not isinstance(sample, int) or isinstance(sample, bool) or sample < 0):
            raise self._error(number, f"expected sample to be 0, 1, ..., but got {sample!r}")
        try:
            budget = str(Budget.parse(record["budget"])) if record.get("budget") else None
        except BudgetError as error:
            raise self._error(number, str(error)) from None
        opening = whole_characters(str(record.get("document") or ""))[:_SHOWN]
        return _Line(number, record["summary"], budget, sample or 0, document_names(record), opening)

    def _match(self, documents: Sequence[Document], different: Mapping[str, Document]) -> None:
        """Finds each line's document; `different` has those with a text of their own, by its hash."""
        lines_of: dict[tuple[str, str | None, int], _Line] = {}
        field = next((f for f in NAMES if all(f in line.names for line in self._lines)), None)
        for line, document in self._by_order(documents) if field is None else self._by_field(documents, field):
            key = text_hash(document.text), line.budget
            sample = line.sample
            while field is None and (*key, sample) in lines_of:
                sample += 1
            place = (*key, sample)
            if place in lines_of:
                raise self._error(
                    line.number,
                    f"line {lines_of[place].number} is for the same document, budget ({line.budget or 'any'}) "
                    f"and sample ({sample}): leave one out, or number them with the field sample",
                )
            lines_of[place] = line
        self._summaries = {place: line.summary for place, line in lines_of.items()}
        self._hash = text_hash(json.dumps([[*place, summary] for place, summary in self._summaries.items()]))
        known = {hashed for hashed, _, _ in lines_of}
        missing = [document for hashed, document in different.items() if hashed not in known]
        if missing and self.strict:
            name = missing[0].name or missing[0].url or missing[0].id
            raise DataError(
                f"{self.path} has no summary for {len(missing)} of {len(different)} documents, such as "
                f"{name!r} ({missing[0].text[:40]!r}...): give each a line, with null where there is no summary, or "
                "leave those documents out"
            )

    def _warn_of_other_budgets(self, budgets: Sequence[str]) -> None:
        others = [line.budget for line in self._lines if line.budget not in (None, *budgets)]
        if others:
            names = ", ".join(dict.fromkeys(map(str, others)))
            log.warning("%s: %d lines are for budgets that are not asked for (%s)", self.path, len(others), names)

    def _by_field(self, documents: Sequence[Document], field: str) -> list[tuple[_Line, Document]]:
        known: dict[str, Document] = {}
        doubtful: set[str] = set()
        for document in documents:
            # the text may have been cut since, but the id is that of the whole one
            names = {
                "document": (document_id(document.text), document.id),
                "id": (document.name, document.id),
                "url": (document.url,),
            }[field]
            for key in filter(None, names):
                if known.setdefault(key, document).text != document.text:
                    doubtful.add(key)
        unknown = [line for line in self._lines if line.names[field] not in known]
        if unknown and (self.strict or len(unknown) == len(self._lines)):
            hint = " (where the documents have no field id, it is the hash of the text)" if field == "id" else ""
            name = _quoted(unknown[0], field)
            raise self._error(unknown[0].number, f"none of the {len(documents)} documents has the {name}{hint}")
        if unknown:
            log.warning(
                "%s: passed over %d of %d lines, whose documents are not among these %d, such as the %s",
                self.path, len(unknown), len(self._lines), len(documents), _quoted(unknown[0], field),
            )  # fmt: skip
        found = []
        for line in self._lines:
            if line.names[field] in doubtful:
                others = " or ".join(f for f in NAMES if f != field)
                name = _quoted(line, field)
                raise self._error(line.number, f"two documents have the {name}: tell the documents by {others}")
            if line.names[field] in known:
                found.append((line, known[line.names[field]]))
        return found

    def _by_order(self, documents: Sequence[Document]) -> list[tuple[_Line, Document]]:
        counts: dict[tuple[str | None, int], int] = {}
        found = []
        for line in self._lines:
            place = counts.setdefault((line.budget, line.sample), 0)
            if place < len(documents):
                found.append((line, documents[place]))
            counts[line.budget, line.sample] += 1
        wrong = next(((key, count) for key, count in counts.items() if count != len(documents)), None)
        if wrong is not None:
            (budget, sample), count = wrong
            raise DataError(
                f"{self.path}: expected a summary for each of the {len(documents)} documents, but got {count} for "
                f"budget {budget or 'any'} and sample {sample}; tell each one's document by "
                f"{', '.join(NAMES)}, or give one line for each document in order"
            )
        return found

    def _error(self, number: int, problem: str) -> DataError:
        return DataError(f"{self.path} line {number}: {problem}")


def _quoted(line: _Line, field: str) -> str:
    """What a line tells its document by, for a message."""
    return f"text {line.opening!r}" if field == "document" else f"{field} {line.names[field][:_SHOWN]!r}"


class GivenText(Contender):
    """One summary, for a single document.

    Args:
        name: As the leaderboard shows it.
        text: The summary.
    """

    is_free = True

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name)
        self.text = text

    @property
    def identity(self) -> str:
        return f"GivenText {text_hash(self.text)}"

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Gives the summary."""
        for task in tasks:
            yield task, Answer(outcome=Outcome.WRITTEN, summary=self.text)
