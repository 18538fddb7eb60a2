"""How far long work is, on a terminal and in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

_EVERY = 30.0  # seconds between two lines of a log


class Step:
    """A piece of work under way.

    Args:
        what: What is done.
        total: Parts it has.
        bar: Shows it; without one, a log line now and then does.
    """

    def __init__(self, what: str, total: int, bar: Progress | None = None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._bar = bar
        self._task = None if bar is None else bar.add_task(what, total=total)
        self._start = self._told = time.monotonic()

    def advance(self, parts: int = 1) -> None:
        """Says that parts are done."""
        self.done += parts
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=parts)
            return
        now = time.monotonic()
        if now - self._told >= _EVERY or self.done == self.total:
            self._told = now
            log.info("%s: %d of %d, %.0f s", self.what, self.done, self.total, now - self._start)


@contextmanager
def step(what: str, total: int) -> Iterator[Step]:
    """Shows a bar on a terminal; without one, a log line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Step(what, total)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        yield Step(what, total, progress)
