"""Answers and scores on disk: what is put here is kept, whatever happens to the process."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from squish_pl.benchmark.claims import CLAIM_TABLES
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.database import Database
from squish_pl.benchmark.postgres_database import PostgresDatabase, is_postgres
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task, text_hash
from squish_pl.benchmark.sqlite_database import SqliteDatabase
from squish_pl.budget import Budget
from squish_pl.lm.tokens import tokenizer_hash, whole_characters
from squish_pl.score.evidence import Evidence, pack, unpack

# plain dataclasses: as pydantic's models, thousands of them would take several times the memory
_ANSWERS, _SCORES = TypeAdapter(Answer), TypeAdapter(ScoreRecord)
_FAILED = Outcome.FAILED.value
_AT_A_TIME = 500  # documents in one query

_TABLES = (
    """CREATE TABLE IF NOT EXISTS answers (
        contender TEXT, identity TEXT, document TEXT, budget TEXT, sample INTEGER, outcome TEXT, answer TEXT,
        PRIMARY KEY (contender, identity, document, budget, sample)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS scores (
        reference TEXT, document TEXT, budget TEXT, summary TEXT, score TEXT,
        PRIMARY KEY (reference, document, budget, summary)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS savings (
        reference TEXT, document TEXT, summary TEXT, saved BLOB,
        PRIMARY KEY (reference, document, summary)) WITHOUT ROWID""",
    # these came later; a store without them gets them, and an earlier version passes them over
    """CREATE TABLE IF NOT EXISTS evidence (
        reference TEXT, document TEXT, summaries TEXT, evidence BLOB,
        PRIMARY KEY (reference, document, summaries))""",
    *CLAIM_TABLES,
)


class ScoreKey(NamedTuple):
    """What a reference was asked to score.

    Attributes:
        document: Hash of the document's text.
        budget: As text.
        summary: Hash of the summary's text, as it was scored.
    """

    document: str
    budget: str
    summary: str

    @classmethod
    def of(cls, task: Task, summary: str) -> ScoreKey:
        """The key of a task's summary."""
        return cls(task.document_hash, task.budget, text_hash(summary))


class Store:
    """Answers and scores, in a SQLite file or a PostgreSQL database.

    Every put is on the disk when it returns. Several processes may share a file on a local disk, and several machines
    a database; each process needs a store of its own, and so does each thread.

    Args:
        where: The file, made, with its folder, where there is none; or postgresql://user@host/database.

    Raises:
        DataError: The store cannot be opened or made, is damaged, or is none of this version. Every method
            raises it too, where it can no longer be read or written.
    """

    def __init__(self, where: str | Path) -> None:
        if is_postgres(where):
            self._database: Database = PostgresDatabase(str(where), _TABLES)
        else:
            self._database = SqliteDatabase(where, _TABLES)

    @property
    def database(self) -> Database:
        """Where everything lies, for those who share the work."""
        return self._database

    def answers(self, contender: Contender, tasks: Iterable[Task]) -> dict[Task, Answer]:
        """The answers that are known, failed ones among them; see `open_tasks` for what is left to ask."""
        found = self._of_tasks(contender, tasks, "answer")
        with self._legible():
            return {task: _ANSWERS.validate_json(answer) for task, answer in found.items()}

    def open_tasks(self, contender: Contender, tasks: Sequence[Task]) -> list[Task]:
        """The tasks without an answer, and those whose answer failed, in order."""
        outcomes = self._of_tasks(contender, tasks, "outcome")
        return [task for task in tasks if outcomes.get(task, _FAILED) == _FAILED]

    def task_keys(self, contender: Contender, tasks: Iterable[Task]) -> list[tuple[str, ...]]:
        """What answers are kept under, a line for each task, and all else that is the same for all, in the first."""
        who = contender.name, text_hash(contender.identity)
        return [who, *((*map(str, _task_key(contender, task)),) for task in tasks)]

    def put_answers(self, contender: Contender, answers: Iterable[tuple[Task, Answer]]) -> None:
        """Keeps answers. One that is there already stays, unless it failed: then the newer one takes its place."""
        who = contender.name, text_hash(contender.identity)
        rows = [
            (*who, *_task_key(contender, task), answer.outcome.value, _json(answer), _FAILED)
            for task, answer in answers
        ]
        statement = (
            "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (contender, identity, document, budget, sample) DO UPDATE "
            "SET outcome = excluded.outcome, answer = excluded.answer WHERE answers.outcome = ?"
        )
        self._database.write((statement, rows))

    def scores(self, reference: str, keys: Iterable[ScoreKey]) -> dict[ScoreKey, ScoreRecord]:
        """The scores that are known.

        Args:
            reference: See `Reference.identity`.
            keys: Of the summaries wanted.
        """
        wanted = set(keys)
        query = "SELECT document, budget, summary, score FROM scores WHERE reference = ? AND document IN"
        with self._legible():
            return {
                key: _SCORES.validate_json(score)
                for *found, score in self._of_documents(query, (reference,), (key.document for key in wanted))
                if (key := ScoreKey(*found)) in wanted
            }

    def put_scores(
        self,
        reference: str,
        scores: Mapping[ScoreKey, ScoreRecord],
        savings: Mapping[ScoreKey, Tensor] | None = None,
    ) -> None:
        """Keeps scores, all of them or none; those that are there already stay.

        Args:
            reference: See `Reference.identity`.
            scores: By what was scored.
            savings: [T] nats saved on each document token, for summaries that are to be looked at.
        """
        rows = [(reference, *key, _json(score)) for key, score in scores.items()]
        seen = [
            (reference, key.document, key.summary, zlib.compress(saved.numpy().astype("<f2").tobytes()))
            for key, saved in (savings or {}).items()
        ]
        self._database.write(
            ("INSERT INTO scores VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows),
            ("INSERT INTO savings VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", seen),
        )

    def savings(self, reference: str, document: str) -> dict[str, Tensor]:
        """The [T] nats saved on each token of a document, to three digits, by the summary's hash.

        Args:
            reference: See `Reference.identity`.
            document: Hash of its text.
        """
        query = "SELECT summary, saved FROM savings WHERE reference = ? AND document = ?"
        with self._legible():
            return {
                summary: torch.from_numpy(np.frombuffer(zlib.decompress(saved), "<f2").astype("float32"))
                for summary, saved in self._database.read(query, (reference, document))
            }

    def measured(self, reference: str, documents: Iterable[str]) -> set[tuple[str, str]]:
        """(document, summary) hashes, of these documents, whose savings are known."""
        query = "SELECT document, summary FROM savings WHERE reference = ? AND document IN"
        return {(document, summary) for document, summary in self._of_documents(query, (reference,), documents)}

    def evidence(self, reference: str, document: str, summaries: str) -> Evidence | None:
        """What passes through a reference told about a document and its summaries; None where it is not known.

        Args:
            reference: Everything that decides it besides the texts.
            document: Hash of the document's text.
            summaries: Hash of all summaries' texts, in order.
        """
        query = "SELECT evidence FROM evidence WHERE reference = ? AND document = ? AND summaries = ?"
        found = self._database.read(query, (reference, document, summaries))
        with self._legible():
            return unpack(found[0][0]) if found else None

    def put_evidence(self, reference: str, document: str, summaries: str, evidence: Evidence) -> None:
        """Keeps what passes told; what is there already stays. See `evidence`."""
        row = (reference, document, summaries, pack(evidence))
        self._database.write(("INSERT INTO evidence VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", [row]))

    def everything(self) -> tuple[list[tuple[str, str, str, str, int, Answer]], dict[str, dict[ScoreKey, ScoreRecord]]]:
        """All answers (contender, hash of its identity, document, budget, sample, answer), all scores by reference."""
        answers = "SELECT contender, identity, document, budget, sample, answer FROM answers"
        scores = "SELECT reference, document, budget, summary, score FROM scores"
        with self._legible():
            found: dict[str, dict[ScoreKey, ScoreRecord]] = {}
            for reference, *key, score in self._database.read(scores, ()):
                found.setdefault(reference, {})[ScoreKey(*key)] = _SCORES.validate_json(score)
            return [(*key, _ANSWERS.validate_json(one)) for *key, one in self._database.read(answers, ())], found

    def _of_tasks(self, contender: Contender, tasks: Iterable[Task], column: str) -> dict[Task, str]:
        keys = {task: _task_key(contender, task) for task in tasks}
        query = (
            f"SELECT document, budget, sample, {column} FROM answers "
            "WHERE contender = ? AND identity = ? AND document IN"
        )
        who = (contender.name, text_hash(contender.identity))
        rows = self._of_documents(query, who, (document for document, _, _ in keys.values()))
        known = {tuple(key): value for *key, value in rows}
        return {task: known[key] for task, key in keys.items() if key in known}

    def _of_documents(self, query: str, values: Sequence[str], documents: Iterable[str]) -> Iterator[Any]:
        """Rows of these documents alone: other runs' may be in the file too, many times as many."""
        hashes = list(dict.fromkeys(documents))
        for first in range(0, len(hashes), _AT_A_TIME):
            some = hashes[first : first + _AT_A_TIME]
            yield from self._database.read(f"{query} ({', '.join('?' * len(some))})", (*values, *some))

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _legible(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, zlib.error) as error:  # pydantic's too
            raise self._database.damaged(str(error).splitlines()[0]) from None


def _task_key(contender: Contender, task: Task) -> tuple[str, str, int]:
    """Document, budget and sample. Whose tokens a budget counts is part of it, and of no other budget's tasks."""
    budget = task.budget
    if contender.tokenizer is not None and Budget.parse(budget).unit.counts_tokens:
        budget = f"{budget} of {tokenizer_hash(contender.tokenizer)}"
    return task.document_hash, budget, task.sample


def _json(record: Answer | ScoreRecord) -> str:
    # not pydantic's own JSON, which turns what is not finite into null
    return whole_characters(json.dumps(asdict(record), ensure_ascii=False))
