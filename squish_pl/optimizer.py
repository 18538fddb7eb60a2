"""The optimiser of the adapter: AdamW, warm-up, and state that may live on the CPU between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from squish_pl.settings import OptimizerSettings


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


@contextmanager
def state_on_device(optimizer: torch.optim.Optimizer, device: torch.device, offload: bool) -> Iterator[None]:
    """Brings the optimiser's state to the device for a step, and back to the CPU after it where `offload` is set."""
    if offload:
        _move_state(optimizer, device)
    yield
    if offload:
        _move_state(optimizer, torch.device("cpu"))


def _move_state(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and name != "step":  # AdamW wants its step counters on the CPU
                state[name] = value.to(device)
