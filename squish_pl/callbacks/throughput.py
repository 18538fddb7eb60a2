"""Tokens per second, seconds and memory of each phase."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from squish_pl.callbacks.estimate import Estimate, rounds_left
from squish_pl.lm.device import used_bytes
from squish_pl.module import SquishModule
from squish_pl.parallel import processes
from squish_pl.rl.phases import PHASES, WAITING, PhaseClock


class Throughput(Callback):
    """Logs each phase's seconds and tokens per second, and peak memory, after every round, and how long a run takes.

    Of several processes the slowest and fullest, and all of their tokens.
    """

    def __init__(self) -> None:
        self._estimate = Estimate()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: SquishModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the round that has just ended."""
        clock: PhaseClock = pl_module.clock
        own = {"seconds/round": sum(clock.seconds.values())}
        for phase in PHASES:
            own[f"seconds/{phase}"] = clock.seconds.get(phase, 0.0)
            if phase in clock.peak_bytes:
                own[f"memory/{phase}_peak_gb"] = clock.peak_bytes[phase] / 1e9
        own["memory/process_peak_gb"] = peak_resident_bytes() / 1e9
        own["memory/process_gb"] = used_bytes(torch.device("cpu")) / 1e9
        if pl_module.device.type == "cuda":
            own["memory/allocated_gb"] = used_bytes(pl_module.device) / 1e9
        if processes.size() > 1:
            own["seconds/waiting"] = clock.seconds.get(WAITING, 0.0)
        of_processes = processes.gather((own, {phase: clock.tokens.get(phase, 0) for phase in PHASES}))
        figures = {key: max(of_one[key] for of_one, _ in of_processes) for key in own}
        for phase in PHASES:
            seconds, tokens = figures[f"seconds/{phase}"], sum(of_one[phase] for _, of_one in of_processes)
            figures[f"tokens_per_second/{phase}"] = tokens / seconds if seconds else 0.0
        pl_module.log_dict(figures, batch_size=1)
        self._estimate.add(figures["seconds/round"], rounds_left(trainer, pl_module))


def peak_resident_bytes() -> int:
    """Most memory this process has had in RAM."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
