"""The phases of a round, their seconds and their tokens."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

ROLLOUT, SCORING, POLICY = "rollout", "scoring", "policy"
PHASES = (ROLLOUT, SCORING, POLICY)
WAITING = "waiting"  #: for the rollouts and scores of other processes


class PhaseClock:
    """Measures a round phase by phase, and tells listeners which phase begins.

    Attributes:
        seconds: Wall seconds of each phase in this round.
        tokens: Tokens that went through the model in each phase of this round.
        peak_bytes: Most GPU memory allocated in each phase of this round; empty on a CPU.
        listeners: Called with the name of the phase that begins, and with "" when it ends.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tokens: dict[str, int] = defaultdict(int)
        self.peak_bytes: dict[str, int] = {}
        self.listeners: list[Callable[[str], None]] = []

    def start_round(self) -> None:
        """Forgets the last round."""
        self.seconds.clear()
        self.tokens.clear()
        self.peak_bytes.clear()

    @contextmanager
    def __call__(self, phase: str, device: torch.device) -> Iterator[None]:
        """Measures a phase; several of one name add up."""
        for listener in self.listeners:
            listener(phase)
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(device)  # a kernel still running belongs to the phase that launched it
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        try:
            yield
        finally:
            if on_gpu:
                torch.cuda.synchronize(device)
                self.peak_bytes[phase] = max(self.peak_bytes.get(phase, 0), torch.cuda.max_memory_allocated(device))
            self.seconds[phase] += time.perf_counter() - start
            for listener in self.listeners:
                listener("")
