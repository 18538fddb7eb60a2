"""A progress bar that counts rounds and shows reward, entropy and the phase at work."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from squish_pl.module import SquishModule


class RoundProgressBar(TQDMProgressBar):
    """Lightning's bar, with rounds instead of batches of an epoch, and the phase beside the figures."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1)
        self._phase = ""

    def setup(self, trainer: Trainer, pl_module: SquishModule, stage: str) -> None:
        """Listens to the module's phases."""
        super().setup(trainer, pl_module, stage)
        pl_module.clock.listeners.append(self._show_phase)
        self._module = pl_module

    @property
    def total_train_batches(self) -> int | float:
        """Rounds of the whole run, where the trainer knows an end."""
        steps = self.trainer.max_steps
        if steps <= 0:
            return super().total_train_batches
        return self._module.warm_start.rounds_of(steps, self._module.learn.policy_passes)

    @property
    def sanity_check_description(self) -> str:
        """The check before training is a whole validation here."""
        return "Validation before training"

    def init_train_tqdm(self) -> Tqdm:
        """The bar of the run."""
        bar = super().init_train_tqdm()
        bar.set_description("Training")
        return bar

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Starts where a resumed run goes on."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description("Round")
        self.train_progress_bar.n = self._module.round
        self.train_progress_bar.refresh()

    def get_metrics(self, trainer: Trainer, pl_module: SquishModule) -> dict[str, Any]:
        """Reward and entropy of the last round, and the phase at work."""
        metrics: dict[str, Any] = {**super().get_metrics(trainer, pl_module), "phase": self._phase or "-"}
        metrics.pop("v_num", None)
        return metrics

    def _show_phase(self, phase: str) -> None:
        self._phase = phase
        if self._train_progress_bar is not None and self.is_enabled and self._trainer is not None:
            self._train_progress_bar.set_postfix(self.get_metrics(self.trainer, self._module))
