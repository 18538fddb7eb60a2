"""How a command ends: its exit code, and one message, of several processes too, for what a person can put right."""

from __future__ import annotations

import errno
import sys
import time
import traceback
from collections.abc import Callable

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from squish_pl.cli.class_hints import with_hint
from squish_pl.errors import SquishError, without_credentials
from squish_pl.parallel import ending, processes

_PATIENCE = 8.0  #: seconds; most often the first process has the same problem, says it, and takes the others with it


def run_to_end(work: Callable[[], None]) -> int:
    """Does the work of a command.

    Returns:
        Exit code: 0; 2 for a mistake of the user's, with one message and no traceback; 130 for Ctrl-C; 143 for a
        request of the system's. That of the first process is the run's: Lightning ends the first one at once where
        another one it has started ends with a code, so those end with 0.

    Raises:
        Exception: A bug, for its traceback.
    """
    try:
        work()
    except KeyboardInterrupt:
        return _stopped(130)
    except SIGTERMException:  # a SystemExit too
        return 0 if own_rank() else 143
    except SystemExit as stop:
        if processes.size() == 1 or not isinstance(stop.code, int):
            raise
        return _stopped(stop.code)  # Lightning's answer to Ctrl-C
    except Exception as error:
        if isinstance(error, ending.SharedError):
            return _say(str(error))
        if (message := told(error)) is not None:
            return _fail(message)
        if processes.size() == 1:
            raise
        if (before := ending.announced(ending.PATIENCE)) is not None:  # an echo: of another process's end
            return _say(str(before))
        ending.announce(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        return 0 if own_rank() else 1
    return 0


def own_rank() -> int:
    """This process among those of the run, before they are connected too."""
    return int(getattr(rank_zero_only, "rank", None) or 0)


def told(error: Exception) -> str | None:
    """What a person needs to know of an error that they can put right; None for a bug."""
    if isinstance(error, SquishError):
        return str(error)
    if isinstance(error, ArgumentError):
        return with_hint(str(error))
    if isinstance(error, MisconfigurationException):
        return " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        return "a configuration file is not UTF-8 text"
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            file = error.filename or "a file"
            return f"no space left on the disk while writing {file}: free some, or write elsewhere"
        return f"{error.strerror or error}: {error.filename or 'a file or folder of the run'}"
    return None


def _fail(message: str) -> int:
    rank, count = own_rank(), processes.size()
    heard = ending.announce(message)
    if rank == 0:
        alone = heard and not ending.said_by_all(message)
        return _say(f"process 1 of {count}: {message}" if alone else message)
    if not heard and processes.size() == 1:  # not connected yet
        time.sleep(_PATIENCE)
        print(f"error: process {rank + 1}: {without_credentials(message)}", file=sys.stderr)
        return 2
    return 0


def _say(message: str) -> int:
    """The first process says it for all."""
    if own_rank():
        return 0
    print(f"error: {without_credentials(message)}", file=sys.stderr)
    return 2


def _stopped(code: int) -> int:
    if processes.size() == 1:
        return code
    ending.announce("it was interrupted", interrupted=True)
    return 0 if own_rank() else code
