"""Answers and scores on disk: what is put here is kept, whatever happens to the process."""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from squish_pl import __version__
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task, text_hash
from squish_pl.budget import Budget
from squish_pl.errors import DataError
from squish_pl.lm.tokens import tokenizer_hash, whole_characters
from squish_pl.score.evidence import Evidence, pack, unpack

_APPLICATION = 0x53515348  # marks the file as ours: "SQSH"
_SCHEMA = 1
# plain dataclasses: as pydantic's models, thousands of them would take several times the memory
_ANSWERS, _SCORES = TypeAdapter(Answer), TypeAdapter(ScoreRecord)
_FAILED = Outcome.FAILED.value
_AT_A_TIME = 500  # documents in one query
_PATIENCE = 60.0  # seconds to wait for another process that writes

_TABLES = (
    """CREATE TABLE answers (
        contender TEXT, identity TEXT, document TEXT, budget TEXT, sample INTEGER, outcome TEXT, answer TEXT,
        PRIMARY KEY (contender, identity, document, budget, sample)) WITHOUT ROWID""",
    """CREATE TABLE scores (
        reference TEXT, document TEXT, budget TEXT, summary TEXT, score TEXT,
        PRIMARY KEY (reference, document, budget, summary)) WITHOUT ROWID""",
    """CREATE TABLE savings (
        reference TEXT, document TEXT, summary TEXT, saved BLOB,
        PRIMARY KEY (reference, document, summary)) WITHOUT ROWID""",
)
# came later; a store without it gets it, and an earlier version passes it over
_EVIDENCE_TABLE = """CREATE TABLE IF NOT EXISTS evidence (
    reference TEXT, document TEXT, summaries TEXT, evidence BLOB,
    PRIMARY KEY (reference, document, summaries))"""


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
    """A SQLite file with answers and scores.

    Every put is on the disk when it returns. Several processes may share a file on a local disk; each needs a store
    of its own, and so does each thread.

    Args:
        path: The file; made, with its folder, where there is none.

    Raises:
        DataError: The file cannot be opened or made, is damaged, or is no store of this version. Every method
            raises it too, where the file can no longer be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"cannot make the folder {self.path.parent} for the store: {error.strerror}; name another path"
            ) from None
        with self._clear_errors():
            # autocommit: a transaction is one statement, or begins in so many words
            self._database = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise

    def answers(self, contender: Contender, tasks: Iterable[Task]) -> dict[Task, Answer]:
        """The answers that are known, failed ones among them; see `open_tasks` for what is left to ask."""
        found = self._of_tasks(contender, tasks, "answer")
        with self._clear_errors():
            return {task: _ANSWERS.validate_json(answer) for task, answer in found.items()}

    def open_tasks(self, contender: Contender, tasks: Sequence[Task]) -> list[Task]:
        """The tasks without an answer, and those whose answer failed, in order."""
        outcomes = self._of_tasks(contender, tasks, "outcome")
        return [task for task in tasks if outcomes.get(task, _FAILED) == _FAILED]

    def put_answers(self, contender: Contender, answers: Iterable[tuple[Task, Answer]]) -> None:
        """Keeps answers. One that is there already stays, unless it failed: then the newer one takes its place."""
        who = contender.name, text_hash(contender.identity)
        rows = [
            (*who, *_task_key(contender, task), answer.outcome.value, _json(answer), _FAILED)
            for task, answer in answers
        ]
        with self._clear_errors(), self._transaction():
            self._database.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (contender, identity, document, budget, sample) DO UPDATE "
                "SET outcome = excluded.outcome, answer = excluded.answer WHERE answers.outcome = ?",
                rows,
            )

    def scores(self, reference: str, keys: Iterable[ScoreKey]) -> dict[ScoreKey, ScoreRecord]:
        """The scores that are known.

        Args:
            reference: See `Reference.identity`.
            keys: Of the summaries wanted.
        """
        wanted = set(keys)
        query = "SELECT document, budget, summary, score FROM scores WHERE reference = ? AND document IN"
        with self._clear_errors():
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
        with self._clear_errors(), self._transaction():
            self._database.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)
            self._database.executemany("INSERT INTO savings VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", seen)

    def savings(self, reference: str, document: str) -> dict[str, Tensor]:
        """The [T] nats saved on each token of a document, to three digits, by the summary's hash.

        Args:
            reference: See `Reference.identity`.
            document: Hash of its text.
        """
        query = "SELECT summary, saved FROM savings WHERE reference = ? AND document = ?"
        with self._clear_errors():
            return {
                summary: torch.from_numpy(np.frombuffer(zlib.decompress(saved), "<f2").astype("float32"))
                for summary, saved in self._database.execute(query, (reference, document))
            }

    def measured(self, reference: str) -> set[tuple[str, str]]:
        """(document, summary) hashes whose savings are known."""
        query = "SELECT document, summary FROM savings WHERE reference = ?"
        with self._clear_errors():
            return set(self._database.execute(query, (reference,)).fetchall())

    def evidence(self, reference: str, document: str, summaries: str) -> Evidence | None:
        """What passes through a reference told about a document and its summaries; None where it is not known.

        Args:
            reference: Everything that decides it besides the texts.
            document: Hash of the document's text.
            summaries: Hash of all summaries' texts, in order.
        """
        query = "SELECT evidence FROM evidence WHERE reference = ? AND document = ? AND summaries = ?"
        with self._clear_errors():
            found = self._database.execute(query, (reference, document, summaries)).fetchone()
            try:
                return None if found is None else unpack(found[0])
            except ValueError as error:
                raise sqlite3.DatabaseError(str(error)) from None

    def put_evidence(self, reference: str, document: str, summaries: str, evidence: Evidence) -> None:
        """Keeps what passes told; what is there already stays. See `evidence`."""
        row = (reference, document, summaries, pack(evidence))
        with self._clear_errors(), self._transaction():
            self._database.execute("INSERT INTO evidence VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)

    def everything(self) -> tuple[list[tuple[str, str, str, str, int, Answer]], dict[str, dict[ScoreKey, ScoreRecord]]]:
        """All answers (contender, hash of its identity, document, budget, sample, answer), all scores by reference."""
        answers = "SELECT contender, identity, document, budget, sample, answer FROM answers"
        scores = "SELECT reference, document, budget, summary, score FROM scores"
        with self._clear_errors():
            found: dict[str, dict[ScoreKey, ScoreRecord]] = {}
            for reference, *key, score in self._database.execute(scores):
                found.setdefault(reference, {})[ScoreKey(*key)] = _SCORES.validate_json(score)
            return [(*key, _ANSWERS.validate_json(one)) for *key, one in self._database.execute(answers)], found

    def _of_tasks(self, contender: Contender, tasks: Iterable[Task], column: str) -> dict[Task, str]:
        keys = {task: _task_key(contender, task) for task in tasks}
        query = (
            f"SELECT document, budget, sample, {column} FROM answers "
            "WHERE contender = ? AND identity = ? AND document IN"
        )
        who = (contender.name, text_hash(contender.identity))
        with self._clear_errors():
            known = {
                tuple(key): value
                for *key, value in self._of_documents(query, who, (document for document, _, _ in keys.values()))
            }
        return {task: known[key] for task, key in keys.items() if key in known}

    def _of_documents(self, query: str, values: Sequence[str], documents: Iterable[str]) -> Iterator[Any]:
        """Rows of these documents alone: other runs' may be in the file too, many times as many."""
        hashes = list(dict.fromkeys(documents))
        for first in range(0, len(hashes), _AT_A_TIME):
            some = hashes[first : first + _AT_A_TIME]
            yield from self._database.execute(f"{query} ({', '.join('?' * len(some))})", (*values, *some))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        self._check_and_make()
        self._use_write_ahead_log()
        self._database.execute("PRAGMA synchronous = FULL")  # a put outlives a power cut too, not only a killed process
        (found,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _check_and_make(self) -> None:
        with self._transaction():  # or another process might make it between two looks
            if self._is_store():
                self._database.execute(_EVIDENCE_TABLE)
                return
            for statement in (*_TABLES, _EVIDENCE_TABLE):
                self._database.execute(statement)
            self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._database.execute(f"PRAGMA user_version = {_SCHEMA}")

    def _is_store(self) -> bool:
        """False for an empty file, which may become one."""
        application, version, tables = (
            self._database.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if not application and not tables:
            return False
        if application != _APPLICATION:
            raise DataError(f"{self.path} is a database, but no store of the benchmark: name another file")
        if version != _SCHEMA:
            raise DataError(
                f"the store {self.path} has the format {version}, but this squish-pl ({__version__}) reads {_SCHEMA}: "
                "use the version that made it, or name another file"
            )
        return True

    def _use_write_ahead_log(self) -> None:
        # sqlite waits for no writer here, such as another process that makes the same file
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:  # commits, or rolls back after an error
            yield

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DataError(
                f"cannot use the store {self.path}: {error}; see that its folder can be written, has space left, and "
                "that no other process holds the file. What was stored before is kept"
            ) from None
        except (sqlite3.DatabaseError, ValidationError, zlib.error) as error:
            if isinstance(error, (sqlite3.ProgrammingError, sqlite3.IntegrityError)):
                raise  # ours, not the file's
            if "not a database" in str(error):
                raise DataError(f"{self.path} is no SQLite file, so no store of the benchmark: name another") from None
            reason = str(error).splitlines()[0]
            raise DataError(
                f"the store {self.path} is damaged ({reason}): restore a copy, or save what can be read with "
                f"`sqlite3 {self.path} .recover | sqlite3 recovered.db`, and go on with that"
            ) from None


def _task_key(contender: Contender, task: Task) -> tuple[str, str, int]:
    """Document, budget and sample. Whose tokens a budget counts is part of it, and of no other budget's tasks."""
    budget = task.budget
    if contender.tokenizer is not None and Budget.parse(budget).unit.counts_tokens:
        budget = f"{budget} of {tokenizer_hash(contender.tokenizer)}"
    return task.document_hash, budget, task.sample


def _json(record: Answer | ScoreRecord) -> str:
    # not pydantic's own JSON, which turns what is not finite into null
    return whole_characters(json.dumps(asdict(record), ensure_ascii=False))
