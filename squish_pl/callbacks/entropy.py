"""Watches for entropy collapse: all summaries of a group alike, nothing left to learn."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from lightning.pytorch import Callback, Trainer

from squish_pl.errors import report_problems
from squish_pl.module import SquishModule

log = logging.getLogger(__name__)

_SWITCH_ON = "switch on a control of the entropy, such as model.entropy: RepoR (docs/learning.md)"
_RAISE = "raise the target of model.entropy (docs/learning.md)"


class EntropyMonitor(Callback):
    """Warns, and can stop the run, when a moving average falls below its floor (or above its ceiling).

    The figures themselves are on the dashboard: `rollout/entropy`, `rollout/distinct`, `reward/std`,
    `reward/zero_spread`. Rounds of a warm start are not looked at: there a group without spread is no sign.

    Args:
        entropy_floor: Nats per generated token, under the policy that sampled.
        distinct_floor: Share of different completions in a group.
        spread_floor: Standard deviation of a group's rewards.
        zero_spread_ceiling: Share of groups whose rewards are all equal.
        window: Rounds in the moving average.
        stop: Stop training at the first warning.
    """

    def __init__(
        self,
        entropy_floor: float = 0.2,
        distinct_floor: float = 0.4,
        spread_floor: float = 0.0,
        zero_spread_ceiling: float = 0.5,
        window: int = 10,
        stop: bool = False,
    ) -> None:
        report_problems([f"entropy.window must be at least 1, but is {window}"] if window < 1 else [])
        self.limits = {
            "rollout/entropy": entropy_floor,
            "rollout/distinct": distinct_floor,
            "reward/std": spread_floor,
            "reward/zero_spread": zero_spread_ceiling,
        }
        self.window, self.stop = window, stop
        self._recent: dict[str, deque[float]] = {key: deque(maxlen=max(1, window)) for key in self.limits}
        self._warned: set[str] = set()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: SquishModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at the round's figures.

        Raises:
            KeyError: A figure is missing; the message names those there are.
        """
        figures: dict[str, float] = pl_module.figures
        if "warm/loss" in figures:
            return
        for key, limit in self.limits.items():
            if key not in figures:
                raise KeyError(f"the entropy monitor needs {key!r}; the round has {sorted(figures)}")
            self._recent[key].append(figures[key])
            if len(self._recent[key]) == self.window:
                control = _SWITCH_ON if pl_module.entropy is None else _RAISE
                self._judge(trainer, key, sum(self._recent[key]) / self.window, limit, control)

    def _judge(self, trainer: Trainer, key: str, average: float, limit: float, control: str) -> None:
        crossed = average > limit if key == "reward/zero_spread" else average < limit
        if not crossed:
            self._warned.discard(key)  # recovered: a second fall is news again
            return
        trainer.should_stop = trainer.should_stop or self.stop
        if key not in self._warned:
            self._warned.add(key)
            word = "above" if key == "reward/zero_spread" else "below"
            cure = f"larger groups and batches, or a lower learning rate, are the cure; or {control}"
            advice = "stopping" if self.stop else cure
            log.warning(
                "entropy collapse: %s is %.3g over %d rounds, %s its limit %g; %s",
                key,
                average,
                self.window,
                word,
                limit,
                advice,
            )

    def state_dict(self) -> dict[str, Any]:
        """Recent figures, so that a resumed run warns when an uninterrupted one would."""
        return {"recent": {key: list(values) for key, values in self._recent.items()}, "warned": sorted(self._warned)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        for key, values in state_dict["recent"].items():
            self._recent[key].extend(values)
        self._warned = set(state_dict["warned"])
