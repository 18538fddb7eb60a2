"""What can be wrong between the parts of a run, found before any work is done."""

from __future__ import annotations

from typing import Any

from squish_pl.rl.validation import ValidationSettings


def monitor_problems(monitor: str | None, validation: ValidationSettings) -> list[str]:
    """Whether a validation has the figure by which the best adapter is chosen; None stands for the default."""
    known = validation.figure_names()
    if monitor is None or monitor in known:
        return []
    return [f"checkpoint.monitor must be one of {', '.join(known)}, but is {monitor!r}"]


def trainer_problems(trainer: Any) -> list[str]:
    """What is wrong with the trainer for any command, a sentence each."""
    found = []
    if trainer.precision != "32-true":
        found.append(
            f"trainer.precision must stay 32-true, but is {trainer.precision}: set model.dtype for the model's weights"
        )
    if trainer.world_size > 1:
        found.append(f"a run takes one device, but the trainer has {trainer.world_size}: set trainer.devices to 1")
    return found
