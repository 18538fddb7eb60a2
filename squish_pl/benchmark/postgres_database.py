"""The database of a store that several machines share: PostgreSQL, through SQLAlchemy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from squish_pl import __version__
from squish_pl.benchmark.database import PATIENCE, Database, Result
from squish_pl.errors import DataError, first_line

_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_LOCK = 0x53515348  # "SQSH"
_FORMAT = 1
_TRY_AGAIN = 0.5  # seconds
_CONNECT = 10  # seconds
# a schema of our own, and no lock that a machine takes with it when it is gone: well before the others lose patience
_OPTIONS = "-c search_path=squish -c idle_in_transaction_session_timeout=20s -c lock_timeout=60s"
_TYPES = {"BLOB": "BYTEA", "REAL": "DOUBLE PRECISION", " WITHOUT ROWID": ""}


def is_postgres(where: str | Path) -> bool:
    """Whether a store's place is the address of a PostgreSQL database."""
    return str(where).startswith(_SCHEMES)


class PostgresDatabase(Database):
    """A PostgreSQL database; the store's tables lie in the schema `squish`.

    A lost connection is made again for up to a minute, so a server may be started anew under a run.

    Args:
        address: postgresql://user:password@host:port/database; what it leaves out comes from PGPASSWORD, ~/.pgpass and
            the like.
        tables: Statements that make what is missing; None where another connection has just done so.

    Raises:
        DataError: A library is missing, the address makes no sense, or the server or the database cannot be used.
    """

    def __init__(self, address: str, tables: Sequence[str] | None = None) -> None:
        if missing := [name for name in ("sqlalchemy", "psycopg") if find_spec(name) is None]:
            raise DataError(
                f"a store on PostgreSQL needs {' and '.join(missing)}: pip install 'squish-pl[postgres]', or name a "
                "file"
            )
        # an extra, and slow to import: only where it is wanted
        import sqlalchemy

        try:
            url = sqlalchemy.make_url(address)
        except (sqlalchemy.exc.ArgumentError, ValueError):  # whose text may hold the password
            raise DataError(
                "the store's address cannot be read: expected postgresql://user@host:port/database"
            ) from None
        self._address, self._secrets = address, [str(part) for part in (url.password, url.username) if part]
        port = f":{url.port}" if url.port else ""
        self.name = f"postgresql://{url.host or 'local socket'}{port}/{url.database or ''}"
        self._engine = sqlalchemy.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "options": _OPTIONS,
                "client_encoding": "utf8",
                "connect_timeout": _CONNECT,
                "application_name": "squish-pl",
                "keepalives_idle": 30,
            },
        )
        self._connection: Any = None  # in a transaction
        if tables is not None:
            self._patience = 0.0  # a wrong address should be told at once
            self.exclusively(lambda: self._make(tables))
        self._patience = PATIENCE

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        return self._connection.exec_driver_sql(sql.replace("?", "%s"), tuple(values))

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self._connection.exec_driver_sql(sql.replace("?", "%s"), [tuple(row) for row in rows])

    def exclusively(self, work: Callable[[], Result]) -> Result:
        def alone() -> Result:
            self.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            return work()

        return self._patiently(alone)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._patiently(lambda: [tuple(row) for row in self.execute(sql, values)])

    def now(self) -> float:
        query = "SELECT extract(epoch FROM clock_timestamp())"  # the machines' own clocks may differ
        if self._connection is not None:
            return float(self.execute(query).fetchone()[0])
        return float(self.read(query)[0][0])

    def twin(self) -> PostgresDatabase:
        return PostgresDatabase(self._address)

    def damaged(self, reason: str) -> DataError:
        return DataError(f"the store {self.name} is damaged ({reason}): restore a copy, or name another database")

    def remove(self) -> None:
        self.close()  # only a file is made for one piece of work

    def close(self) -> None:
        self._engine.dispose()

    def _make(self, tables: Sequence[str]) -> None:
        self.execute("CREATE SCHEMA IF NOT EXISTS squish")
        self.execute("CREATE TABLE IF NOT EXISTS format (number INTEGER PRIMARY KEY)")
        found = [number for (number,) in self.execute("SELECT number FROM format")]
        if found not in ([], [_FORMAT]):
            raise DataError(
                f"the store {self.name} has the format {found[0]}, but this squish-pl ({__version__}) reads {_FORMAT}: "
                "use the version that made it, or name another database"
            )
        if not found:
            self.execute("INSERT INTO format VALUES (?)", (_FORMAT,))
        for statement in tables:
            for ours, theirs in _TYPES.items():
                statement = statement.replace(ours, theirs)
            self.execute(statement)

    def _patiently(self, work: Callable[[], Result]) -> Result:
        """Does work in a transaction, on a new connection where the last one was lost."""
        import sqlalchemy

        deadline: float | None = None  # from the first failure on: a process may have stood still before
        while True:
            try:
                with self._engine.begin() as self._connection:
                    return work()
            except sqlalchemy.exc.OperationalError as error:
                deadline = time.monotonic() + self._patience if deadline is None else deadline
                if time.monotonic() >= deadline:
                    raise self._unusable(error) from None
                time.sleep(_TRY_AGAIN)
            except sqlalchemy.exc.DBAPIError as error:
                raise self._unusable(error) from None
            finally:
                self._connection = None

    def _unusable(self, error: Any) -> DataError:
        reason = first_line(error.orig)
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        return DataError(
            f"cannot use the store {self.name}: {reason}; see that the server runs, and that user, password and "
            "database are right. What was stored before is kept"
        )
