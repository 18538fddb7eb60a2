"""Asking a contender, in portions, each by the process that has claimed it."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator, Sequence

from squish_pl.benchmark.claims import Portion
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.crew import Job, Portions
from squish_pl.benchmark.progress import Step, step
from squish_pl.benchmark.records import Answer, Task, text_hash
from squish_pl.benchmark.store import Store
from squish_pl.errors import SquishError

log = logging.getLogger(__name__)


class AnswerJob(Job):
    """Asking a contender.

    Args:
        contender: Whom.
        tasks: What.
        store: Keeps the answers.
    """

    def __init__(self, contender: Contender, tasks: Sequence[Task], store: Store) -> None:
        self.contender, self.tasks, self.store = contender, tasks, store
        self.title, self.name = contender.name, f"answers {text_hash(json.dumps(store.task_keys(contender, tasks)))}"

    def left(self) -> list[int]:
        """Tasks that are not answered, or failed."""
        left = set(self.store.open_tasks(self.contender, self.tasks))
        return [place for place, task in enumerate(self.tasks) if task in left]

    def deal(self, items: list[int]) -> list[list[int]]:
        """As the contender does."""
        places = {self.tasks[place]: place for place in items}
        dealt = [[places[task] for task in some] for some in self.contender.portions([self.tasks[i] for i in items])]
        if sorted(place for some in dealt for place in some) != sorted(places.values()):
            raise SquishError(f"the contender {self.contender.name!r} dealt out other tasks than it was given")
        return dealt

    def work(self, portions: Portions) -> None:
        """Asks, and stores answers as they come: with their whole portion where they are made so."""
        try:
            with step(self.title, portions.left) as progress:
                self._ask(portions, progress)
        finally:
            self.contender.close()

    def _ask(self, portions: Portions, progress: Step) -> None:
        together = self.contender.is_free or self.contender.in_portions
        asked: dict[Task, int] = {}  # the number of its portion
        under_way: dict[int, tuple[Portion, set[Task]]] = {}  # with the tasks that are not answered yet
        waiting: list[tuple[Task, Answer]] = []

        def given() -> Iterator[list[Task]]:
            for portion in portions:
                # another process may have had it, and answered some
                some = self.store.open_tasks(self.contender, [self.tasks[place] for place in portion.items])
                if not some:
                    portions.done(portion)
                    continue
                asked.update(dict.fromkeys(some, portion.number))
                under_way[portion.number] = portion, set(some)
                yield some

        def keep() -> None:
            nonlocal waiting
            some, waiting = waiting, []
            self.store.put_answers(self.contender, some)
            progress.advance(len(some))

        answering = self.contender.work_through(given())
        try:
            for pair in answering:
                if not (
                    isinstance(pair, tuple) and len(pair) == 2 and pair[0] in asked and isinstance(pair[1], Answer)
                ):
                    raise SquishError(
                        f"the contender {self.contender.name!r} gave {pair!r:.80}: expected (task, Answer) for what it "
                        "was asked"
                    )
                waiting.append(pair)
                portion, left = under_way.get(asked[pair[0]], (None, set()))
                left.discard(pair[0])
                if not together or not left:
                    keep()
                if not left and portion is not None:
                    portions.done(portion)
                    del under_way[portion.number]
        except Exception as error:
            if not isinstance(error, (SquishError, OSError)):
                log.error("the contender %r cannot go on: %s", self.contender.name, type(error).__name__)
            raise
        finally:
            # at once: an endpoint that is still asked goes on costing
            if isinstance(answering, Generator):
                answering.close()
            if waiting:
                keep()
        for portion, _ in under_way.values():
            portions.done(portion)  # what a contender passes over is not asked again in this run
