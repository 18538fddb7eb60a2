"""Adapter folders for users, and the checkpoint a stopped run goes on from.

<dirpath>/best/      PEFT adapter, best by the monitored value
<dirpath>/last/      PEFT adapter, newest
<dirpath>/last.ckpt  everything a resumed run needs but the frozen base: adapter, optimiser, data position, random state
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Optional

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from squish_pl.budget import Budget
from squish_pl.callbacks.card import model_card
from squish_pl.callbacks.results import RunResults, write_results
from squish_pl.callbacks.run_folder import CHECKPOINT, adapter_round, set_aside, take_over
from squish_pl.data.settings import order_of
from squish_pl.data.summaries import RESULTS
from squish_pl.errors import report_problems
from squish_pl.files import recover_folder
from squish_pl.module import SquishModule
from squish_pl.policy.adapter import save_adapter
from squish_pl.rl.validation import budgets_of, monitored_key

log = logging.getLogger(__name__)


class AdapterCheckpoint(Checkpoint):
    """Saves adapter folders, the resumable checkpoint and `results.json`; each is written whole or not at all.

    Args:
        dirpath: The run's folder. Another run found there is kept under another name. A run that goes on from a
            checkpoint elsewhere takes its `best/` and `last/` along.
        every_n_rounds: How often `last/` and `last.ckpt` are written; they are also written after each validation
            and at the end.
        monitor: Figure of the validation by which `best/` is chosen, such as that of a measure with a zero; by default
            the mean SQUISH over budgets, under the audit reference where there is one (val/audit_squish), else under
            the model that gives the reward (val/squish).
        mode: Whether more or less of it is better.

    A run that goes on with another monitor, or validates otherwise, chooses its best anew: by its past validations,
    where they have the figure and that adapter is still there, else from the checkpoint's own or the next one on.
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
        self.results = RunResults()
        self._saved_round = -1
        self._judged: dict[str, str] | None = None  # how; None in what was saved before this was kept
        self._source: Path | None = None  # the checkpoint gone on with
        self._settled = True  # whose the folder is, and what the best is so far

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that a stopped run goes on from."""
        return self.dirpath / CHECKPOINT

    def monitored(self, module: SquishModule) -> str:
        """The figure by which `best/` is chosen in a run."""
        return self.monitor or module.validation.monitored()

    def keep_earlier_run(self) -> Path | None:
        """Renames the folder of an earlier run, so that a new one does not write over it; returns its new name."""
        return set_aside(self.dirpath)

    def on_fit_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Notes what the run goes on from; the folder is left alone until it is sure to begin."""
        self._source = Path(trainer.ckpt_path).expanduser() if trainer.ckpt_path is not None else None
        self._settled = False

    def on_train_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Makes room for the run, now that it is sure to begin, and settles which adapter is its best so far."""
        self._settle(trainer, pl_module)

    def _settle(self, trainer: Trainer, module: SquishModule) -> None:
        if self._settled:
            return
        self._settled = True
        before, self._judged = self._judged, self._judge(trainer, module)
        if _is_trial(trainer):
            return
        kept = None
        if self._source is None:
            self.best, self.best_round, self._saved_round = None, None, -1
            kept = self.keep_earlier_run() if trainer.is_global_zero else None
        elif trainer.is_global_zero:
            kept = take_over(self.dirpath, self._source, {"best": self.best_round, "last": module.round})
        if kept is not None:
            print(f"\nan earlier run in {self.dirpath} is kept as {kept}")
        if self._source is not None:
            self._settle_best(trainer, module, before, self._judged)

    def _settle_best(
        self, trainer: Trainer, module: SquishModule, before: Mapping[str, str] | None, now: Mapping[str, str]
    ) -> None:
        """Keeps the best of a run gone on with where it is the best still and its adapter is there."""
        monitor, validations, budgets = self.monitored(module), module.validations, _budgets(module)
        changed: list[str] = []
        if before is not None:
            changed = [key for key in now if before.get(key, now[key]) != now[key]]
        elif self.best_round is not None:  # what was saved earlier tells by its figures
            figures = validations.get(self.best_round, {})
            changed += ["checkpoint.monitor"] * (figures.get(monitor) != self.best)
            changed += ["model.validation.budgets"] * (set(budgets_of(figures)) != set(budgets))
        comparable = {"checkpoint.monitor", "checkpoint.mode", "model.validation.budgets"}.issuperset(changed)

        reason = f"{' and '.join(changed)} changed since the checkpoint"
        had_one = self.best_round is not None
        if changed and comparable:
            self.best_round, self.best = best_of(validations, monitor, self.mode, budgets)
        elif changed:
            self.best_round, self.best = None, None
        lost = self.best_round is not None and adapter_round(self.dirpath / "best") != self.best_round
        if lost:
            reason = reason if changed else f"{self.dirpath / 'best'} is not that of round {self.best_round}"
            self.best_round, self.best = None, None
        # the checkpoint's own adapter is at hand, and may have been saved before it was judged
        value = monitored_value(validations.get(module.round, {}), monitor, budgets)
        if comparable and value is not None and module.round > 0:
            self._keep_if_best(trainer, module, value)
        if had_one and (changed or lost):
            outcome = "is chosen anew" if self.best_round is None else f"so far is that of round {self.best_round}"
            log.warning("%s: the best adapter %s", reason, outcome)

    def _judge(self, trainer: Trainer, module: SquishModule) -> dict[str, str]:
        """What the monitored figure depends on beside the adapter, by the configuration's keys."""
        monitor, settings = self.monitored(module), module.validation
        data: Any = getattr(trainer, "datamodule", None)
        documents = getattr(data, "validation_documents", None) or getattr(data, "documents", None)
        return {
            "checkpoint.monitor": monitor,
            "checkpoint.mode": self.mode,
            "model.validation.budgets": ", ".join(sorted(_budgets(module))),
            "model.validation.temperature": str(settings.temperature),
            "model.validation.audit": str(settings.audit) if "audit_" in monitor else "",
            "model.prompt": f"{module.prompt}{module.prompt.thinking or ''}",  # as it was before there was thinking
            "model.rollout.max_new_tokens": str(module.rollout.max_new_tokens),
            "model.score": f"{module.score.template}, {module.score.novel_ngram}",
            "model.score.measures": ", ".join(repr(m) for m in module.measures if m.key == monitored_key(monitor)),
            "model.reference": f"{module.reference.others}, {module.reference.rule}",
            "data.validation_documents": str(order_of(documents)),
            **{f"data.{name}": str(getattr(data, name, None)) for name in ("validation_size", "max_tokens")},
            "trainer.limit_val_batches": str(trainer.limit_val_batches),
        }

    def setup(self, trainer: Trainer, pl_module: SquishModule, stage: str) -> None:
        """Brings back a folder whose replacement was interrupted."""
        for name in ("best", "last") if trainer.is_global_zero else ():
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
        if trainer.sanity_checking:  # before training: the folder may still be another run's
            self.results.take(pl_module.round, pl_module.validated)
        elif trainer.state.fn == "fit":
            self.take_in_validation(trainer, pl_module)

    def take_in_validation(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Keeps the adapter as the best, if it is, and saves; for a validation after the run as well.

        Raises:
            KeyError: The validation has no figure of the monitored name; the message names those there are.
        """
        self._settle(trainer, pl_module)  # a run without a round to go has not begun
        figures, monitor = pl_module.validations[pl_module.round], self.monitored(pl_module)
        if monitor not in figures:
            raise KeyError(f"checkpoint.monitor is {monitor!r}, but the validation has {sorted(figures)}")
        self._keep_if_best(trainer, pl_module, figures[monitor])
        self.results.take(pl_module.round, pl_module.validated)
        self.results.forget_others(pl_module.validations, self.best_round)
        self._saved_round = -1  # the best value belongs into the checkpoint
        self._save_last(trainer, pl_module)

    def _keep_if_best(self, trainer: Trainer, module: SquishModule, value: float) -> None:
        if math.isnan(value):  # better than nothing, and than everything else
            return
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best, self.best_round = value, module.round
            self._save_folder(trainer, module, "best")

    def on_exception(self, trainer: Trainer, pl_module: SquishModule, exception: BaseException) -> None:
        """Saves where the system asked the run to end (Lightning waits for the round's end); tells how to go on."""
        if not self._settled:  # the folder may be another run's
            return
        if isinstance(exception, SIGTERMException):
            self._save_last(trainer, pl_module)
        stopped = isinstance(exception, (SIGTERMException, KeyboardInterrupt)) and trainer.is_global_zero
        if stopped and self.last_checkpoint.exists():
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
        if trainer.is_global_zero and any(pl_module.validations.values()):
            content = self.results.content(pl_module.validations, self.best_round, self.monitored(pl_module))
            write_results(self.dirpath / RESULTS, content)

    def _save_folder(self, trainer: Trainer, pl_module: SquishModule, name: str) -> None:
        if _is_trial(trainer) or not trainer.is_global_zero:
            return
        figures = pl_module.validations.get(pl_module.round, {})
        documents = str(getattr(getattr(trainer, "datamodule", None), "title", "unknown"))
        training = {
            "base": pl_module.base_model.base,
            "base_fingerprint": pl_module.backbone.fingerprint,
            "gguf_file": pl_module.base_model.gguf_file,
            "revision": pl_module.base_model.revision,
            "prompt": asdict(pl_module.prompt),
            "round": pl_module.round,
            "scores": figures,
        }
        card = model_card(pl_module, documents, figures)
        save_adapter(pl_module.backbone.model, self.dirpath / name, training, card)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, how it was judged, and the summaries of `results.json`."""
        results = self.results.state_dict()
        return {"best": self.best, "best_round": self.best_round, "judged": self._judged, "results": results}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.best, self.best_round = state_dict["best"], state_dict["best_round"]
        self._judged = state_dict.get("judged")
        self.results.load_state_dict(state_dict.get("results", {}))


def best_of(
    validations: Mapping[int, Mapping[str, float]], monitor: str, mode: str, budgets: Sequence[str]
) -> tuple[int, float] | tuple[None, None]:
    """The round of a run's best validation, the first one among equals, and its figure.

    Args:
        validations: Figures by round; that before training (round 0) does not count.
        monitor: Name of the figure.
        mode: "max" or "min".
        budgets: Means over budgets are taken over these.

    Returns:
        (None, None) where no validation has the figure.
    """
    found = {n: monitored_value(figures, monitor, budgets) for n, figures in sorted(validations.items()) if n > 0}
    values = {n: value for n, value in found.items() if value is not None and not math.isnan(value)}
    if not values:
        return None, None
    best = (max if mode == "max" else min)(values, key=lambda n: values[n])
    return best, values[best]


def monitored_value(figures: Mapping[str, float], monitor: str, budgets: Sequence[str]) -> float | None:
    """A figure of a validation that may have gone over other budgets; None where it does not have it."""
    if "@" in monitor or set(budgets_of(figures)) == set(budgets):
        return figures.get(monitor)
    parts = [figures.get(f"{monitor}@{budget}") for budget in budgets]
    values = [part for part in parts if part is not None]
    return sum(values) / len(values) if values and len(values) == len(parts) else None


def _budgets(module: SquishModule) -> list[str]:
    return [str(Budget.parse(text)) for text in module.validation.budgets]


def _is_trial(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))
