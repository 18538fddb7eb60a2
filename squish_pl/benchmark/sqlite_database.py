"""The database of a store on one machine: a SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from squish_pl import __version__
from squish_pl.benchmark.database import PATIENCE, Database, Result
from squish_pl.errors import DataError

_APPLICATION = 0x53515348  # marks the file as ours: "SQSH"
_SCHEMA = 1


class SqliteDatabase(Database):
    """A SQLite file, on a disk of this machine.

    Args:
        path: The file; made, with its folder, where there is none.
        tables: Statements that make what is missing; None where another connection has just done so.

    Raises:
        DataError: The file cannot be opened or made, is damaged, or is no store of this version.
    """

    def __init__(self, path: str | Path, tables: Sequence[str] | None = None) -> None:
        self.path = Path(path).expanduser()
        self.name = str(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"cannot make the folder {self.path.parent} for the store: {error.strerror}; name another path"
            ) from None
        with self._clear_errors():
            while not self._connect(tables):
                pass

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(sql, rows)

    def exclusively(self, work: Callable[[], Result]) -> Result:
        with self._clear_errors(), self._transaction():
            return work()

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._clear_errors():
            return self.execute(sql, values).fetchall()

    def now(self) -> float:
        return time.time()

    def twin(self) -> SqliteDatabase:
        return SqliteDatabase(self.path)

    def damaged(self, reason: str) -> DataError:
        return DataError(
            f"the store {self.path} is damaged ({reason}): restore a copy, or save what can be read with "
            f"`sqlite3 {self.path} .recover | sqlite3 recovered.db`, and go on with that"
        )

    def close(self) -> None:
        self._connection.close()

    def remove(self) -> None:
        """Closes the file and removes it, unless another has it open."""
        try:
            self.execute("PRAGMA busy_timeout = 0")
            self.execute("PRAGMA journal_mode = DELETE")  # the log goes only where there is no other connection
            self.execute("BEGIN EXCLUSIVE")
            self.path.unlink(missing_ok=True)
        except sqlite3.OperationalError:
            pass
        finally:
            self._connection.close()

    def _connect(self, tables: Sequence[str] | None) -> bool:
        """Opens the file; False where another process has removed it in the meantime."""
        before = _inode(self.path)
        # autocommit: a transaction is one statement, or begins in so many words
        self._connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        opened = _inode(self.path)
        try:
            if tables is None:
                self.execute("PRAGMA synchronous = NORMAL")
                return True
            self._check_and_make(tables)
            is_there = opened is not None and before in (None, opened) and _inode(self.path) == opened
            if is_there:
                self._open()  # from now on nobody removes it
            else:
                self._connection.close()
        except sqlite3.OperationalError:
            self._connection.close()
            if _inode(self.path) == opened:
                raise
            return False  # an error because it is gone
        except BaseException:
            self._connection.close()
            raise
        return is_there

    def _open(self) -> None:
        self._use_write_ahead_log()
        self.execute("PRAGMA synchronous = FULL")  # a put outlives a power cut too, not only a killed process
        (found,) = self.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _check_and_make(self, tables: Sequence[str]) -> None:
        with self._transaction():  # or another process might make it between two looks
            is_new = not self._is_store()
            for statement in tables:
                self.execute(statement)
            if is_new:
                self.execute(f"PRAGMA application_id = {_APPLICATION}")
                self.execute(f"PRAGMA user_version = {_SCHEMA}")

    def _is_store(self) -> bool:
        """False for an empty file, which may become one."""
        application, version, tables = (
            self.execute(query).fetchone()[0]
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
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or rolls back after an error
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
        except sqlite3.DatabaseError as error:
            if isinstance(error, (sqlite3.ProgrammingError, sqlite3.IntegrityError)):
                raise  # ours, not the file's
            if "not a database" in str(error):
                raise DataError(f"{self.path} is no SQLite file, so no store of the benchmark: name another") from None
            raise self.damaged(str(error).splitlines()[0]) from None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
