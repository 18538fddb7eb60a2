"""What a store needs of a database, whichever it is: both speak the same SQL, with ? for each value."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from squish_pl.errors import DataError

PATIENCE = 60.0  #: seconds to wait for another process that writes, or for a server that is gone

Result = TypeVar("Result")


class Database(abc.ABC):
    """A connection; each thread needs one of its own, see `twin`.

    Attributes:
        name: As messages show it: never with a user or password.
    """

    name: str

    @abc.abstractmethod
    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """A statement as a part of `exclusively`; gives a cursor."""

    @abc.abstractmethod
    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """A statement for each row, as a part of `exclusively`."""

    @abc.abstractmethod
    def exclusively(self, work: Callable[[], Result]) -> Result:
        """Does work in one transaction, beside which no other changes anything; all of it is kept, or nothing.

        Args:
            work: Begun again where a connection was lost, so it must do no harm if it was done already.

        Raises:
            DataError: The database cannot be used.
        """

    @abc.abstractmethod
    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query.

        Raises:
            DataError: The database cannot be used.
        """

    def write(self, *statements: tuple[str, Iterable[Sequence[Any]]]) -> None:
        """Executes statements, each for its rows; all of it is on the disk when this returns, or nothing.

        Raises:
            DataError: The database cannot be used.
        """
        ready = [(sql, list(rows)) for sql, rows in statements]

        def work() -> None:
            for sql, rows in ready:
                self.execute_many(sql, rows)

        self.exclusively(work)

    @abc.abstractmethod
    def now(self) -> float:
        """Seconds, by a clock that all who share the database see."""

    @abc.abstractmethod
    def twin(self) -> Database:
        """Another connection to the same database, for claims: what it writes need not outlive a power cut."""

    @abc.abstractmethod
    def damaged(self, reason: str) -> DataError:
        """What to say, and to do, where something stored cannot be read."""

    @abc.abstractmethod
    def remove(self) -> None:
        """Closes the connection, and removes what is stored, unless another has it open."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connection."""
