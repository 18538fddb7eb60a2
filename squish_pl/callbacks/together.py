"""Being asked to end: with several processes all of them do, after the same round."""

from __future__ import annotations

import signal
import threading
from typing import Any

from lightning.pytorch import Callback, Trainer

from squish_pl.module import SquishModule
from squish_pl.parallel.processes import gather


class StopTogether(Callback):
    """What one process alone is asked (SIGTERM, `trainer.should_stop`) all do; does nothing where there is only one.

    Lightning's own handler of SIGTERM exchanges tensors from inside the handler, where they meet whatever else the
    processes are exchanging. Here the signal is noted, and talked about where all meet.
    """

    def __init__(self) -> None:
        self._asked = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Takes the place of Lightning's handler, which puts back what was there before it at the end."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)

    def on_train_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """The same where no validation comes before."""
        self.on_sanity_check_start(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """The same in `validate`."""
        self.on_sanity_check_start(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """The same in `predict`."""
        self.on_sanity_check_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: SquishModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tells the others."""
        self._talk(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: SquishModule, *_: Any) -> None:
        """The same in a validation."""
        self._talk(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """The same after it, when other callbacks may have decided to stop."""
        self._talk(trainer)

    def _talk(self, trainer: Trainer) -> None:
        if trainer.world_size == 1:
            return
        told = gather((self._asked, trainer.should_stop))
        trainer.should_stop = any(stops for _, stops in told)
        if any(asked for asked, _ in told):  # from here on as with one process
            trainer._signal_connector.received_sigterm = True

    def _note(self, signum: int, frame: Any) -> None:
        self._asked = True
