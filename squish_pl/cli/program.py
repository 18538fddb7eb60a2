"""What the command line is called."""

from __future__ import annotations

import sys
from pathlib import Path

_SCRIPTS = {"lightning_cli.py": "python lightning_cli.py", "__main__.py": "python -m squish_pl"}


def program() -> str:
    """The command as it was typed: `squish`, unless a script was run in its place."""
    return _SCRIPTS.get(Path(sys.argv[0]).name, "squish")
