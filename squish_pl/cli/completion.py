"""`completion`: a script with which a shell completes commands, settings and their values."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from jsonargparse import ArgumentParser, auto_parser, capture_parser

from squish_pl.errors import SquishError

SHELLS = ("bash", "zsh", "tcsh")


def run(arguments: list[str]) -> None:
    """Prints the script for the shell that arguments name.

    Raises:
        SquishError: They name none, or shtab is not installed.
    """
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise SquishError(f"expected one of {', '.join(SHELLS)}, but got {' '.join(arguments) or 'nothing'}")
    if find_spec("shtab") is None:
        raise SquishError("completion is written by shtab, which is not installed: run pip install shtab")
    print(_parser().get_completion_script(f"shtab-{arguments[0]}"))


def _parser() -> ArgumentParser:
    """One parser of all commands; each has its own when it runs."""
    from squish_pl.cli.training import SquishCLI

    parser = capture_parser(lambda: SquishCLI([]))
    parser.prog = "squish"
    commands: Any = parser._subcommands_action  # a parser can be asked for subcommands once, which Lightning has done
    for name, function in _functions().items():
        commands.add_subcommand(name, auto_parser(function, as_positional=False))
    return parser


def _functions() -> dict[str, Callable[..., None]]:
    from squish_pl.cli.app import app
    from squish_pl.cli.compare import benchmark
    from squish_pl.cli.export import export
    from squish_pl.cli.meta import meta
    from squish_pl.cli.score import score

    return {"score": score, "compare": benchmark, "meta": meta, "export": export, "app": app}
