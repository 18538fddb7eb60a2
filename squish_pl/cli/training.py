"""`fit`, `validate` and `predict`: Lightning's command line for the module and its documents."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from squish_pl.callbacks import (
    About,
    AdapterCheckpoint,
    EntropyMonitor,
    PredictionWriter,
    RoundProgressBar,
    SampleSummaries,
    StopTogether,
    Throughput,
)
from squish_pl.callbacks.checkpoint_io import AtomicCheckpointIO
from squish_pl.cli.checks import (
    callback_problems,
    monitor_problems,
    setting_problems,
    share_problems,
    trainer_problems,
)
from squish_pl.cli.reports import print_fit_report, print_prediction_report, print_validation_report
from squish_pl.data import DocumentDataModule
from squish_pl.errors import CheckpointError, ConfigError, all_problems_together, report_problems
from squish_pl.module import SquishModule
from squish_pl.policy.adapter import is_adapter_folder


class SquishCLI(LightningCLI):
    """`fit`, `validate` and `predict` of a `SquishModule` on a `DocumentDataModule`.

    The callbacks are sections of their own: checkpoint, entropy, samples, throughput, predictions.

    Args:
        args: Arguments, parsed.
        command: As they were given, for the processes that Lightning starts where there are several devices.
    """

    model: SquishModule
    datamodule: DocumentDataModule

    def __init__(self, args: ArgsType = None, command: Sequence[str] = ()) -> None:
        self._command = command
        super().__init__(
            SquishModule,
            DocumentDataModule,
            args=args,
            seed_everything_default=0,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={name: {"exit_on_error": False} for name in self.subcommands()} | {"exit_on_error": False},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Trainer methods, with the arguments that the command line does not show."""
        skip = {"model", "datamodule", "train_dataloaders", "dataloaders", "weights_only"}
        return {
            "fit": {*skip, "val_dataloaders"},
            "validate": {*skip, "verbose"},
            "predict": {*skip, "return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the callbacks' sections, and one seed for everything."""
        for callback, section in (
            (AdapterCheckpoint, "checkpoint"),
            (EntropyMonitor, "entropy"),
            (SampleSummaries, "samples"),
            (Throughput, "throughput"),
            (PredictionWriter, "predictions"),
        ):
            parser.add_lightning_class_args(callback, section)
        for section in ("model.rollout", "data"):
            parser.link_arguments("seed_everything", f"{section}.seed", compute_fn=int)
        # a list of instances could not be printed, and of one with its arguments a user's only reward would get those
        parser.set_defaults({"model.rewards": ["squish_pl.rl.rewards.Squish"]})

    def instantiate_classes(self) -> None:
        """Builds module, data and trainer, and reports every problem of all three together."""
        # Lightning's callbacks have enumerations among their settings, which are texts to a YAML file
        yaml.SafeDumper.add_multi_representer(str, lambda dumper, text: dumper.represent_str(str(text)))
        with all_problems_together():
            try:
                super().instantiate_classes()
            except ValueError as error:
                if (reason := _class_problem(str(error))) is None:
                    raise
                raise ConfigError([reason]) from None
            report_problems(trainer_problems(self.trainer, os.environ))
            if self.subcommand == "fit":
                report_problems(share_problems(self.datamodule.batch_size, self.trainer.world_size))
                report_problems(monitor_problems(self.checkpoint.monitor, self.model.validation, self.model.measures))

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: a checkpoint of ours holds no hyperparameters to override it with."""

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        own = config.get("callbacks") or []
        own = list(own) if isinstance(own, list) else [own]
        report_problems(setting_problems(config, fits=self.subcommand == "fit") + callback_problems(own))
        plugins = config.get("plugins") or []
        config["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        if config.get("enable_progress_bar") is False:  # a user's own bar is off as well
            own = [c for c in own if not isinstance(c, ProgressBar)]
        elif not any(isinstance(c, ProgressBar) for c in [*own, *callbacks]):
            callbacks = [*callbacks, RoundProgressBar()]
        config["callbacks"] = own
        if config.get("enable_model_summary") is None:  # `About` says in one line what there is to say
            config["enable_model_summary"] = any(isinstance(c, ModelSummary) for c in own)
        config["enable_checkpointing"], config["barebones"] = True, False  # anything else is a problem told above
        if config.get("logger") is False:
            self.save_config_callback = None  # it would write config.yaml into the working folder
        checkpoint = self._get(self.config_init, "checkpoint")
        callbacks = [*callbacks, About(checkpoint.monitored(self.model)), StopTogether()]
        sys.argv[1:] = self._command  # Lightning starts the same command again for each further device
        try:
            return super()._instantiate_trainer(config, callbacks)
        except (MisconfigurationException, RuntimeError, ValueError, TypeError) as error:
            raise ConfigError([f"trainer: {' '.join(str(error).split())}"]) from None

    @property
    def checkpoint(self) -> AdapterCheckpoint:
        """The callback that saves."""
        return next(c for c in self.trainer.callbacks if isinstance(c, AdapterCheckpoint))  # type: ignore[attr-defined]

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["ckpt_path"] = self._find_checkpoint(kwargs.get("ckpt_path"))
        if subcommand == "validate":
            kwargs["verbose"] = False  # our own table says it better
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        return kwargs

    def _find_checkpoint(self, wanted: str | None) -> str | None:
        if wanted is None:
            return None
        path = self.checkpoint.last_checkpoint if wanted == "last" else Path(wanted).expanduser()
        if is_adapter_folder(path):
            raise CheckpointError(f"{path} is an adapter folder: name it with --model.adapter instead of --ckpt_path")
        if not path.is_file():
            hint = "no run has saved one there yet" if wanted == "last" else "expected a .ckpt file, or 'last'"
            raise CheckpointError(f"there is no checkpoint {path}: {hint} (checkpoint.dirpath names the run's folder)")
        return str(path)

    def after_fit(self) -> None:
        """Validates the end of the run if the run did not, and tells what came of it."""
        fast = bool(self.trainer.fast_dev_run)  # type: ignore[attr-defined]
        if self.model.round not in self.model.validations and not fast:
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
            if self.model.round in self.model.validations:
                self.checkpoint.take_in_validation(self.trainer, self.model)
        if self.trainer.is_global_zero:
            print_fit_report(self.model, self.trainer, None if fast else self.checkpoint)

    def after_validate(self) -> None:
        """Prints the scores."""
        if self.trainer.is_global_zero:
            print_validation_report(self.model)

    def after_predict(self) -> None:
        """Tells where the summaries are."""
        writer = next(c for c in self.trainer.callbacks if isinstance(c, PredictionWriter))  # type: ignore[attr-defined]
        if self.trainer.is_global_zero:
            print_prediction_report(writer.path, writer.count)


class _SaveConfig(SaveConfigCallback):
    """Leaves loggers alone that have no folder, such as a tracking server's."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.log_dir is not None:
            super().setup(trainer, pl_module, stage)


def _class_problem(message: str) -> str | None:
    """Why a class of the configuration cannot be built, out of the parser's many lines; None if they do not say."""
    found = re.search(r"Problem with given class_path '([^']+)':\n\s*(.+)", message)
    return found and f"{found[1].rpartition('.')[2]} cannot be used: {found[2].strip()}"
