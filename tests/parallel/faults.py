"""Things that go wrong on one process of several, as a callback that a configuration can name."""

from __future__ import annotations

import math
import os
import resource
import signal
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from squish_pl.errors import DataError
from squish_pl.module import SquishModule


class Fault(Callback):
    """Makes something go wrong.

    Args:
        kind: What: the name of a method.
        rank: On which process.
        round: In which round, from 0.
    """

    def __init__(self, kind: str, rank: int, round: int = 1) -> None:
        self.kind, self.rank, self.round = kind, rank, round

    def on_train_batch_start(self, trainer: Trainer, pl_module: SquishModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and pl_module.round == self.round:
            getattr(self, self.kind)(trainer, pl_module)

    def document(self, trainer: Trainer, module: SquishModule) -> None:
        raise DataError("documents.jsonl, line 7: expected a string in the field `text`")

    def bug(self, trainer: Trainer, module: SquishModule) -> None:
        raise KeyError("a bug")

    def memory(self, trainer: Trainer, module: SquishModule) -> None:
        def learn(*args: Any) -> None:
            module.engine.plan.learning.take(1)
            raise torch.OutOfMemoryError("CUDA out of memory")

        module.learner._learn = learn  # type: ignore[method-assign]

    def strange(self, trainer: Trainer, module: SquishModule) -> None:
        learn = module.learner._learn

        def broken(part: Any, first: bool, totals: Any) -> None:
            learn(part, first, totals)
            totals.loss = math.nan

        module.learner._learn = broken  # type: ignore[method-assign]

    def disk(self, trainer: Trainer, module: SquishModule) -> None:
        """Nothing larger than 20 kB can be written any more."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    def kill(self, trainer: Trainer, module: SquishModule) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def term(self, trainer: Trainer, module: SquishModule) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupt(self, trainer: Trainer, module: SquishModule) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def stop(self, trainer: Trainer, module: SquishModule) -> None:
        trainer.should_stop = True
