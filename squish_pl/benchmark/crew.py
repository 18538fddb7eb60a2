"""Processes that work on one store: each does portions of every job until all are done, whoever dies on the way."""

from __future__ import annotations

import abc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from squish_pl.benchmark.claims import LEASE, Claims, Portion
from squish_pl.benchmark.database import Database
from squish_pl.benchmark.store import Store
from squish_pl.errors import SquishError

log = logging.getLogger(__name__)

_SIGNS = 4  # of life in a lease, so that a late one does no harm
_LOOK_AGAIN = 0.2  # seconds until a process without work looks for some
_TELL_AFTER = 10.0  # seconds of waiting


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of one command.

    Attributes:
        rank: 0 writes the results, where it lives.
    """

    rank: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Place:
        """As torchrun or SLURM (`srun`, and job arrays) say it; alone, or in shells of their own, all are the first."""

        def number(name: str, default: int = 0) -> int:
            text = environment.get(name, "")
            return int(text) if text.isdigit() else default

        if "RANK" in environment:
            return cls(number("RANK"))
        of_array = number("SLURM_ARRAY_TASK_ID") - number("SLURM_ARRAY_TASK_MIN")
        return cls(max(0, of_array) * number("SLURM_NTASKS", 1) + number("SLURM_PROCID"))


class Job(abc.ABC):
    """Work that is dealt out in portions.

    Attributes:
        title: As people see it.
        name: By which processes mean the same items, in the same order.
    """

    title: str
    name: str

    @abc.abstractmethod
    def left(self) -> Sequence[int]:
        """Items that are not done, by their places, in order."""

    @abc.abstractmethod
    def deal(self, items: list[int]) -> list[list[int]]:
        """Items in portions; each is done by one process, in one piece."""

    @abc.abstractmethod
    def work(self, portions: Portions) -> None:
        """Does portions as long as there are any, and says of each that it is done when all of it is kept.

        One that another process had, which was killed, may be done in part.
        """


class Portions(Iterator[Portion]):
    """The portions of a job that this process gets: each is claimed when it is asked for."""

    def __init__(self, claims: Claims, job: str) -> None:
        self._claims, self._job = claims, job
        self._done: list[Portion] = []
        self._next: Portion | None = None

    def __next__(self) -> Portion:
        if not self.are_there():
            raise StopIteration
        portion, self._next = self._next, None
        assert portion is not None
        return portion

    def are_there(self) -> bool:
        """Whether there is another one now; it is claimed then."""
        if self._next is None:
            self._next = self._claims.take(self._job, self._done)
            self._done = []
        return self._next is not None

    def done(self, portion: Portion) -> None:
        """Says that a portion's work is done and kept."""
        self._done.append(portion)

    @property
    def left(self) -> int:
        """Items of the job that are not done, by whomever."""
        return self._claims.left(self._job)


class Crew:
    """This process among those that share a store, and its signs of life.

    Args:
        store: Whose work is shared.
        place: Of this process.
        lease: Seconds from its last sign of life until others take over what it has claimed.

    Raises:
        DataError: The store cannot be used; every method raises it too.
    """

    def __init__(self, store: Store, place: Place = Place(), lease: float = LEASE) -> None:
        self._claims = Claims(store.database.twin(), place=place.rank, lease=lease)
        self._stopped = threading.Event()
        self._alive = threading.Thread(target=self._live, args=(store.database,), daemon=True)

    def __enter__(self) -> Crew:
        self._claims.renew()
        self._alive.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._alive.join()
        try:
            self._claims.leave()
        except SquishError:
            if exception[0] is None:
                raise  # or the first error would be hidden by one that it has caused
        finally:
            self._claims.database.close()

    def share(self, jobs: Sequence[Job]) -> None:
        """Works on jobs, with whoever else does, until all are done.

        Raises:
            SquishError: A job cannot go on here. Others may do what is left.
        """
        for job in jobs:
            self._claims.join(job.name, job.left, job.deal)
        unfinished, idle_since, told = list(jobs), None, False
        while unfinished:
            worked = [job for job in unfinished if self._work(job)]
            unfinished = [job for job in unfinished if self._claims.left(job.name)]
            if worked or not unfinished:
                idle_since = None
                continue
            now = time.monotonic()
            idle_since = now if idle_since is None else idle_since
            if not told and now - idle_since > _TELL_AFTER:
                log.info("waiting for other processes: %s", ", ".join(job.title for job in unfinished))
                told = True
            self._wait()

    def join_once(self, name: str) -> None:
        """Takes part in what one process does for all, see `once`; to be said before the work that leads to it."""
        self._claims.join(name, lambda: [0], lambda items: [[item] for item in items])

    def once(self, name: str, work: Callable[[], None]) -> bool:
        """Does work that one process does for all, or waits until it is done: the first one, by its place, that lives.

        Args:
            name: By which processes mean the same.
            work: Done again by another process where this one is killed on the way.

        Returns:
            Whether this process did it.
        """
        while self._claims.left(name):
            portion = self._claims.take(name) if self._claims.is_first(name) else None
            if portion is not None:
                work()
                self._claims.take(name, [portion])
                return True
            self._wait()
        return False

    def _wait(self) -> None:
        time.sleep(_LOOK_AGAIN)
        self._claims.bury()

    def _work(self, job: Job) -> bool:
        """Does what nobody else has; whether there was anything."""
        portions, worked = Portions(self._claims, job.name), False
        while portions.are_there():
            job.work(portions)
            worked = True
        return worked

    def _live(self, database: Database) -> None:
        own: Database | None = None
        while not self._stopped.wait(self._claims.lease / _SIGNS):
            try:
                own = own or database.twin()
                Claims(own, self._claims.worker, self._claims.place, self._claims.lease).renew()
            except SquishError as error:
                log.warning("no sign of life could be given: %s", error)
        if own is not None:
            own.close()
