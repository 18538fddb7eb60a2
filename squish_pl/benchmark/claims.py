"""Who does which part of the work: claims in the store's database, by processes that tell now and then that they live.

    a job = items, dealt out in portions -> a portion is claimed by a worker -> done, and gone
                                         -> free again when the worker leaves, or its lease ends

A lease is a worker's, not a portion's: one row says until when it lives, and all that it has claimed lives with it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

from squish_pl.benchmark.alive import here, is_gone
from squish_pl.benchmark.database import Database

LEASE = 60.0  #: seconds

CLAIM_TABLES = (
    "CREATE TABLE IF NOT EXISTS workers (worker TEXT PRIMARY KEY, place INTEGER, lives_until REAL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS joined (job TEXT, worker TEXT, PRIMARY KEY (job, worker)) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS portions (
        job TEXT, number INTEGER, items TEXT, size INTEGER, worker TEXT,
        PRIMARY KEY (job, number)) WITHOUT ROWID""",
)
_ALIVE = "(SELECT worker FROM workers WHERE lives_until > ?)"


class Portion(NamedTuple):
    """A part of a job, for one worker.

    Attributes:
        job: The job's name.
        number: Within the job.
        items: Places in the job's list.
    """

    job: str
    number: int
    items: tuple[int, ...]


class Claims:
    """A worker's claims.

    Args:
        database: With `CLAIM_TABLES`; used by no other thread.
        worker: Name of this one; by default a new one.
        place: Among the processes of one command: the rank.
        lease: Seconds from a sign of life until others take the work over.
        clock: Seconds; by default the database's.
    """

    def __init__(
        self,
        database: Database,
        worker: str | None = None,
        place: int = 0,
        lease: float = LEASE,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.database, self.place, self.lease = database, place, lease
        self.worker = worker or f"{here()} {os.getpid()} {uuid.uuid4().hex[:8]}"
        self._now = clock or database.now
        self._mine: set[tuple[str, int]] = set()

    def renew(self) -> None:
        """A sign of life: the lease begins anew."""
        self.database.exclusively(self._renew)

    def bury(self) -> None:
        """Ends the leases of workers on this machine whose processes are gone, without waiting for the time."""
        query = f"SELECT worker FROM workers WHERE worker IN {_ALIVE}"
        dead = [(worker,) for (worker,) in self.database.read(query, (self._now(),)) if _is_dead(worker)]
        if dead:
            self.database.write(("DELETE FROM workers WHERE worker = ?", dead))

    def join(self, job: str, left: Callable[[], Sequence[int]], deal: Callable[[list[int]], list[list[int]]]) -> None:
        """Takes part in a job.

        Whoever comes first deals it out: what an earlier run has left stays dealt out as it was, so that it is done in
        the same portions. Who comes later takes what is there.

        Args:
            job: Name, by which all who take part mean the same items.
            left: What is not done, by the items' places, in order. Asked of the first one alone.
            deal: From what is left to portions.
        """
        self.bury()
        if self.database.exclusively(lambda: self._join_others(job)):
            return
        rows = self.database.read("SELECT items FROM portions WHERE job = ?", (job,))
        dealt = {item for (items,) in rows for item in json.loads(items)}
        fresh = deal([item for item in left() if item not in dealt])

        def begin() -> None:
            if self._join_others(job):  # another was faster
                return
            self._join(job)
            (last,) = self.database.execute("SELECT max(number) FROM portions WHERE job = ?", (job,)).fetchone()
            rows = [
                (job, number, json.dumps(items), len(items), None)
                for number, items in enumerate(fresh, 0 if last is None else last + 1)
            ]
            self.database.execute_many("INSERT INTO portions VALUES (?, ?, ?, ?, ?)", rows)

        self.database.exclusively(begin)

    def take(self, job: str, done: Sequence[Portion] = ()) -> Portion | None:
        """Claims the next portion that is free; None where there is none now.

        Args:
            job: Its name.
            done: Portions whose work is done, and kept: they are gone.
        """
        for portion in done:
            self._mine.discard((portion.job, portion.number))

        def claim() -> Portion | None:
            # done is done, even where another has taken it over in the meantime
            gone = [(portion.job, portion.number) for portion in done]
            self.database.execute_many("DELETE FROM portions WHERE job = ? AND number = ?", gone)
            found = self.database.execute(
                f"SELECT number, items FROM portions WHERE job = ? "
                f"AND (worker IS NULL OR worker = ? OR worker NOT IN {_ALIVE}) "
                "ORDER BY number LIMIT ?",
                (job, self.worker, self._now(), len(self._mine) + 1),
            )
            # one of mine that I do not know of: the answer to an earlier claim was lost on its way
            free = next((row for row in found if (job, row[0]) not in self._mine), None)
            if free is None:
                return None
            number, items = free
            self._renew()
            self.database.execute(
                "UPDATE portions SET worker = ? WHERE job = ? AND number = ?", (self.worker, job, number)
            )
            return Portion(job, number, tuple(json.loads(items)))

        taken = self.database.exclusively(claim)
        if taken is not None:
            self._mine.add((taken.job, taken.number))
        return taken

    def left(self, job: str) -> int:
        """Items of a job in portions that are not done."""
        ((left,),) = self.database.read("SELECT coalesce(sum(size), 0) FROM portions WHERE job = ?", (job,))
        return int(left)

    def is_first(self, job: str) -> bool:
        """Whether no other with a lower place lives and takes part in a job."""
        query = (
            "SELECT count(*) FROM joined JOIN workers ON joined.worker = workers.worker "
            "WHERE job = ? AND place < ? AND lives_until > ?"
        )
        ((before,),) = self.database.read(query, (job, self.place, self._now()))
        return int(before) == 0

    def leave(self) -> None:
        """Gives back what is claimed, for others to take at once."""

        def work() -> None:
            self.database.execute("UPDATE portions SET worker = NULL WHERE worker = ?", (self.worker,))
            self.database.execute("DELETE FROM joined WHERE worker = ?", (self.worker,))
            self.database.execute("DELETE FROM workers WHERE worker = ?", (self.worker,))

        self._mine.clear()
        self.database.exclusively(work)

    def _renew(self) -> None:
        self.database.execute(
            "INSERT INTO workers VALUES (?, ?, ?) "
            "ON CONFLICT (worker) DO UPDATE SET lives_until = excluded.lives_until",
            (self.worker, self.place, self._now() + self.lease),
        )

    def _join_others(self, job: str) -> bool:
        """Joins a job that others take part in; False where there are none."""
        found = self.database.execute(
            f"SELECT count(*) FROM joined WHERE job = ? AND worker IN {_ALIVE}", (job, self._now())
        )
        if found.fetchone()[0] == 0:
            return False
        self._join(job)
        return True

    def _join(self, job: str) -> None:
        self._renew()
        self.database.execute("DELETE FROM workers WHERE lives_until <= ?", (self._now(),))
        self.database.execute("DELETE FROM joined WHERE worker NOT IN (SELECT worker FROM workers)")
        self.database.execute("INSERT INTO joined VALUES (?, ?) ON CONFLICT DO NOTHING", (job, self.worker))


def _is_dead(worker: str) -> bool:
    """Whether it was a process of this machine that is gone; of other machines' only their leases tell."""
    machine, _, rest = worker.partition(" ")
    pid = rest.partition(" ")[0]
    return machine == here() and pid.isdigit() and is_gone(int(pid))
