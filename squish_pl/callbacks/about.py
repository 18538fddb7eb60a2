"""What a run is, said once at its beginning."""

from __future__ import annotations

import logging

from lightning.pytorch import Callback, Trainer

from squish_pl.callbacks.texts import log_text
from squish_pl.module import SquishModule

log = logging.getLogger(__name__)


class About(Callback):
    """Tells how many parameters learn and on what device, and by what the best adapter is picked.

    Args:
        monitor: The figure by which it is picked.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_fit_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Writes the lines."""
        sizes = [(p.numel(), p.requires_grad) for p in pl_module.backbone.model.parameters()]
        learning, total = sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)
        lines = [
            f"{_short(learning)} of {_short(total)} parameters learn, on {pl_module.device}{_processes(trainer)}",
            judge(pl_module, self.monitor),
        ]
        log.info("%s", lines[0])
        log_text(trainer.loggers, "about", "\n\n".join(lines), pl_module.round)


def judge(module: SquishModule, monitor: str) -> str:
    """Who picks the best adapter, and whether that is the model that gave the reward."""
    audit = module.validation.audit
    if "audit_" in monitor and audit is not None:
        return f"The best adapter is picked by {monitor}, measured by {audit.title}, which gives no reward."
    return (
        f"The best adapter is picked by {monitor}, measured by the model that gives the reward: "
        "name another one as model.validation.audit to have it judged independently."
    )


def _processes(trainer: Trainer) -> str:
    return f", in each of {trainer.world_size} processes" if trainer.world_size > 1 else ""


def _short(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
