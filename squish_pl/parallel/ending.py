"""How a run of several processes ends where one of them fails: no other is left waiting for it.

    one fails ─ announce ─> the store of the process group ─ cause, watch ─> the others end, and the first says why

A process notices at its next meeting that another one has ended. Where it cannot (a GPU's collectives wait for ever),
a thread that watches the store ends it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, NamedTuple, cast

import torch.distributed as dist

from squish_pl.errors import SquishError

PATIENCE = 3.0  #: seconds that a process which fails has for telling why
_GRACE = 30.0  #: seconds that a process has for ending by itself, once another one has
_UNKNOWN = (
    "has ended without a word: it was killed, or the machine ran out of memory. Its own output or the system's log "
    "tells more; go on with --ckpt_path last"
)


class SharedError(SquishError):
    """What ends all processes: an error of another one, or one that all of them find."""


class Announcement(NamedTuple):
    """What a process said before it ended.

    Attributes:
        rank: Which one.
        message: Why.
        interrupted: Whether a person asked it to (Ctrl-C).
    """

    rank: int
    message: str
    interrupted: bool = False

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {dist.get_world_size()}: {self.message}"


_store: Any = None  # a connection of this module's own: another one may be waiting for something else
_watching: threading.Event | None = None


def watch() -> None:
    """Begins to look out for announcements."""
    global _store, _watching
    if _store is None:
        _store = cast(Any, dist.distributed_c10d._get_default_store()).clone()
    if _watching is None:
        _watching = threading.Event()
        threading.Thread(target=_watch, args=(_watching,), daemon=True, name="watch").start()


def end_watch() -> None:
    """Looks out no more: the processes are done with one another."""
    global _watching
    if _watching is not None:
        _watching.set()
        _watching = None


def announce(message: str, interrupted: bool = False) -> bool:
    """Tells the others why this process ends; false where there is no way to, or the first one has ended already."""
    if _store is None:
        return False
    own = Announcement(dist.get_rank(), message, interrupted)
    try:
        _store.set(_key(own.rank), json.dumps(own))
    except RuntimeError:
        return False
    return True


def said_by_all(message: str) -> bool:
    """Whether every process ends for the same reason; waits a moment for them to say so."""
    ranks = range(dist.get_world_size())
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if _store.check([_key(rank) for rank in ranks]):
            return all(Announcement(*json.loads(_store.get(_key(rank)))).message == message for rank in ranks)
        time.sleep(0.05)
    return False


def announced(patience: float = 0.0) -> Announcement | None:
    """What another process has said, if any has; the first one's end says itself."""
    if _store is None:
        return None
    deadline = time.monotonic() + patience
    while True:
        try:
            for rank in range(dist.get_world_size()):
                if rank != dist.get_rank() and _store.check([_key(rank)]):
                    return Announcement(*json.loads(_store.get(_key(rank))))
        except RuntimeError:  # it keeps the store
            return Announcement(0, _UNKNOWN)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.05)


def cause() -> BaseException:
    """Why another process has ended, for this one to raise: `SharedError`, or `KeyboardInterrupt` where that was it."""
    found = announced(PATIENCE)
    if found is None:
        return SharedError(f"another process of the run {_UNKNOWN}")
    return KeyboardInterrupt() if found.interrupted else SharedError(str(found))


def _watch(ended: threading.Event) -> None:
    while not ended.wait(1.0):
        if (found := announced()) is None:
            continue
        if not ended.wait(_GRACE):
            first = dist.get_rank() == 0
            if first and not found.interrupted:
                print(f"error: {found}", file=sys.stderr, flush=True)
            os._exit(2 if first else 1)


def _key(rank: int) -> str:
    return f"squish_pl/ended/{rank}"
