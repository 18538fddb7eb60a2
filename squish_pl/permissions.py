"""Permissions of files that began as temporary ones."""

from __future__ import annotations

import os
from pathlib import Path


def usual_mode(path: Path) -> None:
    """Gives a file or folder the permissions of a newly made one; a temporary one is its owner's alone."""
    mask = os.umask(0o022)  # the system tells it only by setting it
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
