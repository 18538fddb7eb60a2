"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from squish_pl.errors import DataError
from squish_pl.permissions import usual_mode


@contextmanager
def written_whole(path: Path) -> Iterator[IO[str]]:
    """A text file beside the target, moved into its place when all is written; its folder is made where it is missing.

    Raises:
        DataError: It cannot be written; an earlier one is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            yield file
        usual_mode(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"cannot write {str(path)!r}: {error.strerror or error}; free disk space or choose another file"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
