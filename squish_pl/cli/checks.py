"""What can be wrong between the parts of a run, found before any work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

from squish_pl.rl.validation import ValidationSettings
from squish_pl.score.measures.base import Measure

_WITHOUT_MEANING = {
    "gradient_clip_val": "set model.optimizer.max_grad_norm",
    "overfit_batches": "name a few documents with data.documents, or set data.shuffle_window: 0",
    "barebones": "set trainer.logger and trainer.enable_progress_bar to false",
}

#: Lightning's callbacks that cannot do their work on a run of rounds, by the names of their classes
_UNFIT = {
    "BackboneFinetuning": "the base stays frozen, since it is the reference too",
    "BaseFinetuning": "the base stays frozen, since it is the reference too",
    "BatchSizeFinder": "data.batch_size says how many documents a round has, and model.memory what fits at a time",
    "GradientAccumulationScheduler": "a round adds up the gradients of all its documents: set data.batch_size",
    "LearningRateFinder": "set model.optimizer.learning_rate",
    "ModelPruning": "the adapter is saved as it is",
    "SpikeDetection": "a round has no single loss: look at loss/policy and policy/grad_norm",
    "StochasticWeightAveraging": "endless documents have no epochs for it: take EMAWeightAveraging",
    "ThroughputMonitor": "seconds and tokens per second of each phase are logged already",
}


def monitor_problems(
    monitor: str | None, validation: ValidationSettings, measures: Sequence[Measure] = ()
) -> list[str]:
    """Whether a validation has the figure by which the best adapter is chosen; None stands for the default."""
    known = validation.figure_names(measures)
    if monitor is None or monitor in known:
        return []
    return [f"checkpoint.monitor must be one of {', '.join(known)}, but is {monitor!r}"]


def setting_problems(trainer: Mapping[str, Any], fits: bool) -> list[str]:
    """What is wrong with the trainer's settings, before Lightning says it in its own words.

    Args:
        trainer: The section `trainer`.
        fits: Whether the command trains.
    """
    found = [
        f"trainer.{name} has no meaning here: {advice}"
        for name, advice in _WITHOUT_MEANING.items()
        if trainer.get(name)
    ]
    if (trainer.get("accumulate_grad_batches") or 1) != 1:
        found.append(
            "trainer.accumulate_grad_batches has no meaning here: set data.batch_size, all of which is one step"
        )
    if trainer.get("enable_checkpointing") is False:
        found.append("trainer.enable_checkpointing must not be false: checkpoint.dirpath says where the run is saved")
    return found + (_endless_problems(trainer) if fits else [])


def _endless_problems(trainer: Mapping[str, Any]) -> list[str]:
    """Whether the run has an end: documents come for ever, so epochs do not count it unless their length is set."""
    epochs, batches = trainer.get("max_epochs"), trainer.get("limit_train_batches")
    has_epochs = isinstance(batches, int) and not isinstance(batches, bool)
    if (trainer.get("max_steps") or -1) > 0 or trainer.get("max_time") or trainer.get("fast_dev_run"):
        return []
    if epochs is not None and epochs > 0 and not has_epochs:
        return [
            f"trainer.max_epochs is {epochs}, but documents come for ever and have no epochs: set trainer.max_steps "
            "(optimiser steps: rounds x model.learn.policy_passes)"
        ]
    if (epochs is None or epochs < 0) and not any(_named(c) == "Timer" for c in trainer.get("callbacks") or []):
        return ["the run has no end: set trainer.max_steps (rounds x model.learn.policy_passes) or trainer.max_time"]
    return []


def callback_problems(callbacks: Sequence[Callback]) -> list[str]:
    """Which of a user's own callbacks cannot work."""
    return [
        f"trainer.callbacks: {name} cannot work here: {_UNFIT[name]}"
        for name in dict.fromkeys(map(_named, callbacks))
        if name in _UNFIT
    ]


def trainer_problems(trainer: Any, environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the trainer for any command, a sentence each.

    Args:
        trainer: Lightning's.
        environment: The process's environment variables.
    """
    found = []
    if trainer.precision != "32-true":
        found.append(
            f"trainer.precision must stay 32-true, but is {trainer.precision}: set model.base_model.dtype for the "
            "model's weights"
        )
    strategy = trainer.strategy
    if isinstance(strategy, (FSDPStrategy, ModelParallelStrategy)):
        found.append(
            f"trainer.strategy must be ddp or auto, but is {_named(strategy)}: a sharded model needs all processes to "
            "make the same passes, and here each makes its own (docs/several_devices.md); take a smaller base"
        )
    elif not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)):
        found.append(f"trainer.strategy must be ddp or auto, but is {_named(strategy)}")
    elif getattr(strategy, "_start_method", "popen") != "popen":
        found.append("trainer.strategy must be ddp: forked or spawned processes cannot tell what came of the run")
    started = _started(environment)
    if started not in (1, trainer.world_size):
        found.append(
            f"{started} processes were started, but trainer.devices x trainer.num_nodes is {trainer.world_size}: set "
            "them to what was started, or start one process"
        )
    return found


def share_problems(batch_size: int, devices: int) -> list[str]:
    """Whether every device has a document of each batch to work on."""
    if batch_size >= devices or batch_size < 1:  # that is told by itself
        return []
    return [
        f"data.batch_size must be at least the number of devices, {devices}, but is {batch_size}: every "
        "device works on documents of its own"
    ]


def _started(environment: Mapping[str, str]) -> int:
    """How many processes torchrun or SLURM has started."""
    tasks = environment.get("WORLD_SIZE")
    if not tasks and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # as Lightning tells srun
        tasks = environment.get("SLURM_NTASKS")
    return int(tasks) if tasks and tasks.isdigit() else 1


def _named(callback: object) -> str:
    return type(callback).__name__
