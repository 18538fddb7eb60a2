"""Configurations by name: --config 3090.yaml is looked up in configs/."""

from __future__ import annotations

from pathlib import Path

from squish_pl.errors import SquishError

_FLAGS = ("--config", "-c")


def find_configs(arguments: list[str]) -> list[str]:
    """Puts the path of each configuration in the place of its name.

    A path that exists is taken as it is; otherwise configs/ of the working folder, then of the project, is searched.

    Raises:
        SquishError: There is no such configuration; the message names those there are.
    """
    found = list(arguments)
    for i, argument in enumerate(arguments):
        flag, equals, name = argument.partition("=")
        if flag in _FLAGS and equals:
            found[i] = f"{flag}={find_config(name)}"
        elif argument in _FLAGS and i + 1 < len(arguments):
            found[i + 1] = find_config(arguments[i + 1])
    return found


def find_config(name: str) -> str:
    """The path of one configuration."""
    folders = [Path("configs"), Path(__file__).resolve().parent.parent / "configs"]
    for candidate in (Path(name).expanduser(), *(folder / name for folder in folders)):
        if candidate.is_file():
            return str(candidate)
    known = sorted({file.name for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})
    raise SquishError(f"there is no configuration {name!r}: expected a file, or one of configs/: {', '.join(known)}")
