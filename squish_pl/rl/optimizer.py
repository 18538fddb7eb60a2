"""The optimiser of the adapter: AdamW, warm-up, and state that may live on the CPU between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) with linear warm-up, then a constant rate.

    Attributes:
        learning_rate: After warm-up.
        warmup_steps: Optimiser steps over which the rate rises from a fraction to its full value.
        betas: Decay of the first and second moment.
        weight_decay: On the adapter's weights.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them alone.
        offload: Keep the optimiser's state in the CPU's memory between steps.
    """

    learning_rate: float = 1e-5
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    offload: bool = False

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not 0 < self.learning_rate < float("inf"):
            found.append(f"optimizer.learning_rate must be a number above 0, but is {self.learning_rate}")
        if not all(0 <= beta < 1 for beta in self.betas):
            found.append(f"optimizer.betas must be at least 0 and below 1, but are {self.betas}")
        found += [
            f"optimizer.{name} must be a number of at least 0, but is {value}"
            for name, value in (
                ("warmup_steps", self.warmup_steps),
                ("weight_decay", self.weight_decay),
                ("max_grad_norm", self.max_grad_norm),
            )
            if not 0 <= value < float("inf")
        ]
        return found


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW and its warm-up schedule, which counts optimiser steps."""
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    warmup = settings.warmup_steps
    return optimizer, LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup + 1)))


def apply_settings(optimizer: torch.optim.Optimizer, schedule: LambdaLR, settings: OptimizerSettings) -> None:
    """Makes a restored optimiser follow the settings of this run; without a change in them nothing changes."""
    schedule.base_lrs = [settings.learning_rate] * len(optimizer.param_groups)
    for group, factor in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
        group["initial_lr"] = settings.learning_rate
        group["lr"] = settings.learning_rate * factor(schedule.last_epoch)
        group["betas"], group["weight_decay"] = settings.betas, settings.weight_decay


def begin_anew(optimizer: torch.optim.Optimizer, schedule: LambdaLR, settings: OptimizerSettings) -> None:
    """Forgets the moments and begins the warm-up again, under settings that may be others."""
    optimizer.state.clear()
    schedule.last_epoch = 0
    apply_settings(optimizer, schedule, settings)


@contextmanager
def state_on_device(optimizer: torch.optim.Optimizer, device: torch.device, offload: bool) -> Iterator[None]:
    """Brings the optimiser's state to the device for a step, and back to the CPU after it where `offload` is set."""
    if offload:
        move_state(optimizer, device)
    yield
    if offload:
        move_state(optimizer, torch.device("cpu"))


def move_state(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Moves the moments of all parameters to a device, in one copy for each type of theirs."""
    places: dict[torch.dtype, list[tuple[dict[str, torch.Tensor], str]]] = {}
    for state in optimizer.state.values():
        for name, value in state.items():
            # AdamW wants its step counters on the CPU
            if isinstance(value, torch.Tensor) and name != "step" and value.device != device:
                places.setdefault(value.dtype, []).append((state, name))
    for of_type in places.values():
        moved = _flat([state[name] for state, name in of_type]).to(device)
        start = 0
        for state, name in of_type:
            value = state[name]
            state[name] = moved[start : start + value.numel()].view_as(value)
            start += value.numel()


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The tensors one after another; no copy where they are parts of one already."""
    storage, place = tensors[0].untyped_storage(), 0
    for tensor in tensors:
        same = tensor.untyped_storage()._cdata == storage._cdata and tensor.storage_offset() == place
        if not same or not tensor.is_contiguous():
            return torch.cat([t.flatten() for t in tensors])
        place += tensor.numel()
    return tensors[0].as_strided((place,), (1,), 0)
