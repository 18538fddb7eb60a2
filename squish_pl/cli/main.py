"""The command line: which command runs, and one message for whatever a person can put right."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from tqdm import tqdm

from squish_pl.cli.class_hints import with_hint
from squish_pl.cli.config_files import find_configs, names_key
from squish_pl.cli.old_keys import refuse_old_keys
from squish_pl.errors import SquishError


class _Command(NamedTuple):
    run: Callable[[list[str]], None]
    does: str
    example: str


def _train(arguments: list[str]) -> None:
    refuse_old_keys(arguments)
    # commands are imported when they run: each is slow to import, and none needs the others
    from squish_pl.cli.help import asks_for_short_help, print_fit_help, without_all
    from squish_pl.cli.training import SquishCLI

    if asks_for_short_help(arguments):
        print_fit_help(arguments)
    else:
        SquishCLI(without_all(arguments) if arguments[0] == "fit" else arguments)


def _validate(arguments: list[str]) -> None:
    if names_key(arguments, "contenders"):
        _compare(arguments)
    else:
        _train(arguments)


def _compare(arguments: list[str]) -> None:
    from squish_pl.cli.compare import run

    run(arguments[1:])


def _score(arguments: list[str]) -> None:
    from squish_pl.cli.score import run

    run(arguments[1:])


def _meta(arguments: list[str]) -> None:
    from squish_pl.cli.meta import run

    run(arguments[1:])


def _report(arguments: list[str]) -> None:
    from squish_pl.cli.report import run

    run(arguments[1:])


_COMMANDS = {
    "fit": _Command(_train, "train an adapter", "fit --config smollm2.yaml"),
    "validate": _Command(
        _validate, "score an adapter on the validation documents", "validate --config 3090.yaml --ckpt_path last"
    ),
    "predict": _Command(
        _train,
        "summarise documents into a JSON lines file",
        "predict --config 3090.yaml --model.adapter checkpoints/3090/best --data.documents my_texts/",
    ),
    "score": _Command(
        _score, "score given summaries", "score --document article.txt --summary short.txt,long.txt --budget 10%"
    ),
    "compare": _Command(
        _compare, "compare any summarisers on one leaderboard", "compare --config benchmark.yaml --report report/"
    ),
    "report": _Command(
        _report, "lay two runs of the benchmark beside each other", "report --compare before.sqlite after.sqlite"
    ),
    "meta": _Command(
        _meta, "measure how well scores follow people's ratings", "meta --ratings ratings.jsonl --output meta.json"
    ),
}


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
    arguments = list(sys.argv[1:] if args is None else args)
    sys.argv = [sys.argv[0]]  # LightningCLI warns where it sees both
    command = _COMMANDS[_parser().parse_args(arguments[:1]).command]
    try:
        command.run(find_configs(arguments))
    except SquishError as error:
        return _fail(str(error))
    except ArgumentError as error:
        return _fail(with_hint(str(error)))
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


def _parser() -> argparse.ArgumentParser:
    """Reads the command's name alone."""
    examples = "\n".join(f"  python lightning_cli.py {command.example}" for command in _COMMANDS.values())
    parser = argparse.ArgumentParser(
        description="Measures how good summaries are without human labels, and trains a model to write better ones.",
        epilog=f"examples:\n{examples}\n\nCOMMAND --help tells its settings; fit --help all every one there is.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s COMMAND [--config NAME] [settings]",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for name, command in _COMMANDS.items():
        commands.add_parser(name, help=command.does, add_help=False)
    return parser


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
        ".*no pre-optimization state was saved.*",
    ):
        warnings.filterwarnings("ignore", pattern)
