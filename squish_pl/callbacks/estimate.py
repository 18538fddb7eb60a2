"""How long a run will take, told once it can be known."""

from __future__ import annotations

import logging
from statistics import fmean

from lightning.pytorch import Trainer

from squish_pl.module import SquishModule

log = logging.getLogger(__name__)

_ROUNDS = 3  #: after so many it is told; the first, in which everything warms up, does not count


class Estimate:
    """Tells after three rounds how long the others will take if they take as long."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def add(self, seconds: float, left: int | None) -> None:
        """Notes a round that has ended.

        Args:
            seconds: Of the round.
            left: Rounds that are to come; None where nothing says how many.
        """
        if len(self._seconds) >= _ROUNDS:
            return
        self._seconds.append(seconds)
        if len(self._seconds) == _ROUNDS:
            mean = fmean(self._seconds[1:])
            ahead = "" if left is None else f": the {left:,} rounds ahead take about {in_words(left * mean)}"
            log.info("a round takes about %s, validations left out%s", in_words(mean), ahead)


def rounds_left(trainer: Trainer | None, module: SquishModule) -> int | None:
    """Rounds up to the limit on optimiser steps; None without one."""
    if trainer is None or trainer.max_steps < 0:
        return None
    passes, rounds_of = module.learn.policy_passes, module.warm_start.rounds_of
    return max(0, rounds_of(trainer.max_steps, passes) - rounds_of(trainer.global_step, passes))


def in_words(seconds: float) -> str:
    """A time in the unit that suits it: "42 s", "15 min", "3.5 h", "10 days"."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 72)):
        if seconds < most * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86_400:.3g} days"
