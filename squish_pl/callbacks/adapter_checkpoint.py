"""Adapter folders for users, and the checkpoint a stopped run goes on from.

<dirpath>/best/      PEFT adapter, best by the monitored value
<dirpath>/last/      PEFT adapter, newest
<dirpath>/last.ckpt  everything a resumed run needs but the frozen base: adapter, optimiser, data position, random state
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Optional

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from squish_pl.callbacks.card import model_card
from squish_pl.errors import CheckpointError, report_problems
from squish_pl.files import recover_folder
from squish_pl.module import SquishModule
from squish_pl.policy.adapter import save_adapter


class AdapterCheckpoint(Checkpoint):
    """Saves adapter folders and the resumable checkpoint; each is written whole or not at all.

    Args:
        dirpath: The run's folder. An earlier run found there is kept under another name, unless it is gone on with.
        every_n_rounds: How often `last/` and `last.ckpt` are written; they are also written after each validation
            and at the end.
        monitor: Figure of the validation by which `best/` is chosen; by default the mean SQUISH over budgets, under the
            audit reference where there is one (val/audit_squish), else under the model that gives the reward
            (val/squish).
        mode: Whether more or less of it is better.
    """

    def __init__(
        self,
        dirpath: str = "checkpoints/run",
        every_n_rounds: int = 10,
        monitor: Optional[str] = None,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        super().__init__()
        problems = [f"checkpoint.every_n_rounds must be at least 1, but is {every_n_rounds}"] * (every_n_rounds < 1)
        if Path(dirpath).name in ("", ".."):
            problems.append(f"checkpoint.dirpath must be a folder of the run's own, but is {dirpath!r}")
        report_problems(problems)
        self.dirpath, self.every_n_rounds, self.monitor, self.mode = Path(dirpath), every_n_rounds, monitor, mode
        self.best: float | None = None
        self.best_round: int | None = None
        self._saved_round = -1

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that a stopped run goes on from."""
        return self.dirpath / "last.ckpt"

    def monitored(self, module: SquishModule) -> str:
        """The figure by which `best/` is chosen in a run."""
        return self.monitor or module.validation.monitored()

    def keep_earlier_run(self) -> Path | None:
        """Renames the folder of an earlier run, so that a new one does not write over it; returns its new name."""
        if not any((self.dirpath / name).exists() for name in ("best", "last", "last.ckpt")):
            return None
        number = 1
        while (kept := self.dirpath.with_name(f"{self.dirpath.name}-earlier-{number}")).exists():
            number += 1
        try:
            self.dirpath.rename(kept)
        except OSError as error:
            raise CheckpointError(
                f"{self.dirpath} holds an earlier run and cannot be renamed ({error.strerror}): set checkpoint.dirpath"
            ) from None
        return kept

    def on_train_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Makes room for a new run, now that it is sure to begin."""
        if trainer.ckpt_path is None and not _is_trial(trainer) and (kept := self.keep_earlier_run()):
            print(f"\nan earlier run in {self.dirpath} is kept as {kept}")

    def setup(self, trainer: Trainer, pl_module: SquishModule, stage: str) -> None:
        """Brings back a folder whose replacement was interrupted."""
        for name in ("best", "last"):
            recover_folder(self.dirpath / name)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: SquishModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves every n rounds, unless a validation follows, whose end saves: no stop can come between the two."""
        interval = trainer.val_check_batch
        validates = bool(trainer.enable_validation and interval) and pl_module.round % int(interval or 1) == 0
        if pl_module.round % self.every_n_rounds == 0 and not validates:
            self._save_last(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Saves, and keeps the best."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.take_in_validation(trainer, pl_module)

    def take_in_validation(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Keeps the adapter as the best, if it is, and saves; for a validation after the run as well.

        Raises:
            KeyError: The validation has no figure of the monitored name; the message names those there are.
        """
        figures, monitor = pl_module.validations[pl_module.round], self.monitored(pl_module)
        if monitor not in figures:
            raise KeyError(f"checkpoint.monitor is {monitor!r}, but the validation has {sorted(figures)}")
        value = figures[monitor]
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best, self.best_round = value, pl_module.round
            self._save_folder(trainer, pl_module, "best")
        self._saved_round = -1  # the best value belongs into the checkpoint
        self._save_last(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: SquishModule, exception: BaseException) -> None:
        """Saves where the system asked the run to end (Lightning waits for the round's end); tells how to go on."""
        if isinstance(exception, SIGTERMException):
            self._save_last(trainer, pl_module)
        if isinstance(exception, (SIGTERMException, KeyboardInterrupt)) and self.last_checkpoint.exists():
            print(f"\nstopped; the same command with --ckpt_path last goes on from {self.last_checkpoint}")

    def on_train_end(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Saves the end of the run."""
        self._save_last(trainer, pl_module)

    def _save_last(self, trainer: Trainer, pl_module: SquishModule) -> None:
        if _is_trial(trainer) or self._saved_round == pl_module.round:
            return
        self._saved_round = pl_module.round
        self._save_folder(trainer, pl_module, "last")
        trainer.save_checkpoint(self.last_checkpoint)

    def _save_folder(self, trainer: Trainer, pl_module: SquishModule, name: str) -> None:
        if _is_trial(trainer) or not trainer.is_global_zero:
            return
        figures = pl_module.validations.get(pl_module.round, {})
        documents = str(getattr(getattr(trainer, "datamodule", None), "documents", "unknown"))
        training = {
            "base": pl_module.base_model.base,
            "base_fingerprint": pl_module.backbone.fingerprint,
            "gguf_file": pl_module.base_model.gguf_file,
            "round": pl_module.round,
            "scores": figures,
        }
        card = model_card(pl_module, documents, figures)
        save_adapter(pl_module.backbone.model, self.dirpath / name, training, card)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best, "best_round": self.best_round}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.best, self.best_round = state_dict["best"], state_dict["best_round"]


def _is_trial(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))
