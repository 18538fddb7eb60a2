"""The command line: which command runs, and one message for whatever a person can put right."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tqdm import tqdm

from squish_pl.cli.completion import SHELLS
from squish_pl.cli.config_files import find_configs, names_key
from squish_pl.cli.ending import own_rank, run_to_end
from squish_pl.cli.old_keys import refuse_old_keys
from squish_pl.cli.program import program


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
        SquishCLI(without_all(arguments) if arguments[0] == "fit" else arguments, arguments)


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


def _export(arguments: list[str]) -> None:
    from squish_pl.cli.export import run

    run(arguments[1:])


def _app(arguments: list[str]) -> None:
    from squish_pl.cli.app import run

    run(arguments[1:])


def _complete(arguments: list[str]) -> None:
    from squish_pl.cli.completion import run

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
        _score, "score given summaries", 'score --document article.txt --summary "A ferry sank." --budget 10%'
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
    "export": _Command(
        _export, "merge an adapter into a plain model", "export --adapter checkpoints/smollm2/best --to merged/"
    ),
    "app": _Command(_app, "open a page to try a summary on", "app --adapter checkpoints/smollm2/best"),
    "completion": _Command(
        _complete,
        f"print the shell's completion of these commands ({', '.join(SHELLS)})",
        "completion bash > squish.bash",
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
    return run_to_end(lambda: command.run(find_configs(arguments)))


def _parser() -> argparse.ArgumentParser:
    """Reads the command's name alone."""
    name = program()
    examples = "\n".join(f"  {name} {command.example}" for command in _COMMANDS.values())
    parser = argparse.ArgumentParser(
        prog=name,
        description="Measures how good summaries are without human labels, and trains a model to write better ones.",
        epilog=f"examples:\n{examples}\n\nCOMMAND --help tells its settings; fit --help all every one there is.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s COMMAND [--config NAME] [settings]",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for name, command in _COMMANDS.items():
        commands.add_parser(name, help=command.does, add_help=False)
    return parser


#: whose warnings are about a process's own share of the work
_OWN_AFFAIRS = {"squish_pl.lm.halving", "squish_pl.policy.engine"}


class _BesideProgress(logging.Handler):
    """Writes log lines to standard error without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _show_log() -> None:
    """Lets the project's own log lines be seen, the plain ones too."""
    logger = logging.getLogger("squish_pl")
    logger.handlers = [_BesideProgress()]
    logger.setLevel(logging.INFO)
    if rank := own_rank():  # the first process says what holds for all, the others what happens to them alone
        logger.handlers[0].setFormatter(logging.Formatter(f"process {rank + 1}: %(message)s"))
        logger.handlers[0].addFilter(lambda record: record.name in _OWN_AFFAIRS)
        logger.setLevel(logging.WARNING)


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
        ".*`base_model_name_or_path` was renamed.*",
        ".*recommended to use .*sync_dist=True.*",  # figures are those of all processes before they are logged
        ".*no pre-optimization state was saved.*",
    ):
        warnings.filterwarnings("ignore", pattern)
