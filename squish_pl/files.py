"""Files and folders that are written whole or not at all, in the one way the whole project does it.

What is new is written beside the target, synced to disk and moved into its place: whoever reads, and whoever is killed
or runs out of space, leaves or finds the earlier one or the new one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from squish_pl.errors import CheckpointError, DataError


def paths_in(text: str) -> list[str]:
    """Paths separated by commas, or one with commas in it."""
    return [text] if Path(text).expanduser().exists() else [path.strip() for path in text.split(",") if path.strip()]


@contextmanager
def replacing(path: Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A file beside the target, moved into its place when all is written; its folder is made where it is missing.

    Args:
        path: The target; an earlier file there lends its permissions.
        binary: Whether bytes are written; else UTF-8 text.

    Raises:
        OSError: It cannot be written; an earlier one is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": "\n"}
        with os.fdopen(handle, "wb" if binary else "w", **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        else:
            usual_mode(temporary)
        os.replace(temporary, path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path, advice: str = "free disk space or choose another file") -> Iterator[IO[str]]:
    """A text file that is written whole or not at all; see `replacing`.

    Args:
        path: The file.
        advice: What a person can do where it cannot be written.

    Raises:
        DataError: It cannot be written; an earlier one is untouched.
    """
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot write {str(path)!r}: {error.strerror or error}; {advice}") from None


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes a folder's content beside it and moves it into place, so that no half-written one is ever seen.

    Raises:
        CheckpointError: It cannot be written; the earlier folder, if any, is still there.
    """
    retired = _retired(folder)
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        write(temporary)
        usual_mode(temporary)
        for file in temporary.iterdir():
            usual_mode(file)
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(retired, ignore_errors=True)
        if folder.exists():
            folder.rename(retired)
        temporary.rename(folder)
        shutil.rmtree(retired, ignore_errors=True)
    except Exception as error:  # safetensors reports a full disk as an error of its own
        raise CheckpointError(f"cannot write {folder}: {error}; free disk space or choose another folder") from None
    finally:  # after Ctrl-C too; what was moved into place is not there any more
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        recover_folder(folder)


def recover_folder(folder: Path) -> None:
    """Brings back the earlier folder where a process was killed between the two moves of `replace_folder`."""
    retired = _retired(folder)
    if retired.exists() and not folder.exists():
        retired.rename(folder)


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.retired")


def usual_mode(path: Path) -> None:
    """Gives a file or folder the permissions of a newly made one; a temporary one is its owner's alone."""
    mask = os.umask(0o022)  # the system tells it only by setting it
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
