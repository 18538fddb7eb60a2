"""Errors a user can put right: one clear message, no traceback, exit code 2."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class SquishError(Exception):
    """A user's mistake. The message says what was expected, what was found and what to do.

    The command line prints the message alone and exits with code 2; as a library, catch it like any exception.
    """


class ConfigError(SquishError):
    """Problems of a configuration, all reported together.

    Args:
        problems: One sentence for each problem.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = "the configuration has a problem" if count == 1 else f"the configuration has {count} problems"
        super().__init__(f"{head}:" + "".join(f"\n  - {problem}" for problem in self.problems))


class BudgetError(SquishError, ValueError):
    """A budget that cannot be understood, or that allows nothing."""


class ModelError(SquishError):
    """A model, tokenizer or adapter that cannot be loaded, or that does not fit."""


class DataError(SquishError):
    """Documents that cannot be found, read or used."""


class CheckpointError(SquishError):
    """A checkpoint or adapter that cannot be written or read."""


def first_line(error: Exception) -> str:
    """What a library's error says, without its further lines; its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def without_credentials(text: str) -> str:
    """A text with the user and password of every address in it left out."""
    return re.sub(r"(\w+://)\S*@", r"\1***@", text)


#: What is raised by reading a file of text, gzipped or not.
UNREADABLE = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def unreadable(path: object, error: Exception) -> str:
    """What is wrong with a file that could not be read, and what to do about it.

    Args:
        path: The file.
        error: One of `UNREADABLE`, or a library's own.
    """
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
        return f"{path} is not a complete gzip file ({error}); fetch or write it again"
    if isinstance(error, UnicodeDecodeError):
        return f"{path} is not UTF-8 text ({error}); convert it"
    return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"


def repeated(names: Iterable[str]) -> dict[str, int]:
    """Names that come more than once where each must be one's own, with how often."""
    return {name: count for name, count in Counter(names).items() if count > 1}


_collected: ContextVar[list[str] | None] = ContextVar("collected_problems", default=None)


def report_problems(problems: Iterable[str]) -> None:
    """Raises `ConfigError` for problems, if any; inside `all_problems_together` they are collected instead.

    Whoever reports must cope with going on: store the values and compute nothing from them.
    """
    problems = list(problems)
    collected = _collected.get()
    if collected is not None:
        collected += problems
    elif problems:
        raise ConfigError(problems)


@contextmanager
def all_problems_together() -> Iterator[None]:
    """Collects every problem reported inside, and raises one `ConfigError` with all of them at the end.

    An error that the bad values cause on the way gives way to the problems that caused it.
    """
    collected: list[str] = []
    token = _collected.set(collected)
    try:
        yield
    except SquishError as error:
        collected += error.problems if isinstance(error, ConfigError) else [str(error)]
    except Exception:
        if not collected:
            raise
    finally:
        _collected.reset(token)
    if collected:
        raise ConfigError(dict.fromkeys(collected)) from None
