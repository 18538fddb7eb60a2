"""The command line: Lightning's, with configurations by name, problems reported together, and a word at the end."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, auto_cli
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from tqdm import tqdm

from squish_pl.callbacks import (
    AdapterCheckpoint,
    EntropyMonitor,
    PredictionWriter,
    RoundProgressBar,
    SampleSummaries,
    Throughput,
)
from squish_pl.checkpoint_io import AtomicCheckpointIO
from squish_pl.checks import run_problems, trainer_problems
from squish_pl.config_files import find_configs, names_key
from squish_pl.data import DocumentDataModule
from squish_pl.errors import CheckpointError, ConfigError, SquishError, all_problems_together, report_problems
from squish_pl.module import SquishModule
from squish_pl.policy.adapter import is_adapter_folder
from squish_pl.report import print_fit_report, print_prediction_report, print_validation_report

_DESCRIPTION = """Trains and measures summarisers. Beside the subcommands below:
`score --documents docs.jsonl --summaries sums.jsonl` scores given summaries (score --help tells more);
`validate --config benchmark.yaml`, or any configuration with `contenders`, compares summarisers (validate --config
benchmark.yaml --help tells more)."""

_CONTENDERS = (
    "\nA contender has a class_path (LocalModel, Endpoint, GivenSummaries, Opening, BestSentences, RandomSentences, "
    "Highlights, or the import path of a class of your own) and the class's arguments under init_args"
)


class SquishCLI(LightningCLI):
    """`fit`, `validate` and `predict` of a `SquishModule` on a `DocumentDataModule`.

    The callbacks are sections of their own: checkpoint, entropy, samples, throughput, predictions.
    """

    model: SquishModule
    datamodule: DocumentDataModule

    def __init__(self, args: ArgsType = None) -> None:
        super().__init__(
            SquishModule,
            DocumentDataModule,
            args=args,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={name: {"exit_on_error": False} for name in self.subcommands()}
            | {"exit_on_error": False, "description": _DESCRIPTION},
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
        for section in ("model", "data"):
            parser.link_arguments("seed_everything", f"{section}.seed", compute_fn=int)

    def instantiate_classes(self) -> None:
        """Builds module, data and trainer, and reports every problem of all three together."""
        with all_problems_together():
            super().instantiate_classes()
            check = run_problems(self.model, self.trainer) if self.subcommand == "fit" else None
            report_problems(trainer_problems(self.trainer) if check is None else check)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: a checkpoint of ours holds no hyperparameters to override it with."""

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        plugins = config.get("plugins") or []
        config["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        if config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks = [*callbacks, RoundProgressBar()]
        if config.get("enable_checkpointing") is None:
            config["enable_checkpointing"] = True
        if config.get("logger") is False:
            self.save_config_callback = None  # it would write config.yaml into the working folder
        try:
            return super()._instantiate_trainer(config, callbacks)
        except (MisconfigurationException, ValueError, TypeError) as error:
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
        print_fit_report(self.model, self.trainer, None if fast else self.checkpoint)

    def after_validate(self) -> None:
        """Prints the scores."""
        print_validation_report(self.model)

    def after_predict(self) -> None:
        """Tells where the summaries are."""
        writer = next(c for c in self.trainer.callbacks if isinstance(c, PredictionWriter))  # type: ignore[attr-defined]
        print_prediction_report(writer.path, writer.count)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        args: Arguments; those of the process if None.

    Returns:
        Exit code: 0, or 2 for a mistake of the user's (with one message and no traceback).
    """
    _quieten()
    _show_log()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign must not end a run
    try:
        arguments = find_configs(list(sys.argv[1:] if args is None else args))
        sys.argv = [sys.argv[0]]  # LightningCLI warns where it sees both
        if arguments[:1] == ["score"]:
            from squish_pl.score_command import score  # imported late: slow, and not for training

            auto_cli(score, args=arguments[1:], as_positional=False, exit_on_error=False)
        elif arguments[:1] == ["validate"] and names_key(arguments, "contenders"):
            from squish_pl.benchmark_command import benchmark

            auto_cli(benchmark, args=arguments[1:], as_positional=False, exit_on_error=False)
        else:
            SquishCLI(arguments)
    except SquishError as error:
        return _fail(str(error))
    except ArgumentError as error:
        return _fail(str(error) + (_CONTENDERS if 'key "contenders"' in str(error) else ""))
    except MisconfigurationException as error:
        return _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return 130
    except SIGTERMException:
        return 143
    except UnicodeDecodeError:
        return _fail("a configuration file is not UTF-8 text")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            file = error.filename or "a file"
            return _fail(f"no space left on the disk while writing {file}: free some, or write elsewhere")
        return _fail(f"{error.strerror or error}: {error.filename or 'a file or folder of the run'}")
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


class _BesideProgress(logging.Handler):
    """Writes log lines to standard error without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _show_log() -> None:
    """Lets the project's own log lines be seen, the plain ones too."""
    logger = logging.getLogger("squish_pl")
    logger.handlers = [_BesideProgress()]
    logger.setLevel(logging.INFO)


def _quieten() -> None:
    """Silences what users can do nothing about."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    words = ("litlogger", "litmodels", "`weights_only` was")
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(
            lambda record: not any(word in record.getMessage() for word in words)
        )
    for pattern in (
        ".*does not have many workers.*",
        ".*ended before the epoch ended and your dataloader is not resumable.*",
        ".*LeafSpec.*",
        ".*Trying to infer the `batch_size`.*",
        ".*module\\(s\\) in eval mode at the start of training.*",
        ".*is_gradient_checkpointing.*",
    ):
        warnings.filterwarnings("ignore", pattern)
