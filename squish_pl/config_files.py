"""Configurations by name: --config 3090.yaml is looked up in configs/."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import yaml

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


def names_key(arguments: list[str], key: str) -> bool:
    """Whether arguments, or a configuration among them, set a key of the top level."""
    if any(argument.startswith((f"--{key}=", f"--{key}+")) or argument == f"--{key}" for argument in arguments):
        return True
    values = [
        argument.partition("=")[2] for argument in arguments if argument.startswith(tuple(f"{f}=" for f in _FLAGS))
    ]
    values += [value for flag, value in pairwise(arguments) if flag in _FLAGS]
    for value in values:
        try:
            content = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # whoever reads it in earnest will say so
        if isinstance(content, dict) and key in content:
            return True
    return False


def find_config(name: str) -> str:
    """The path of one configuration."""
    folders = [Path("configs"), Path(__file__).resolve().parent.parent / "configs"]
    for candidate in (Path(name).expanduser(), *(folder / name for folder in folders)):
        if candidate.is_file():
            return str(candidate)
    known = sorted({file.name for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})
    raise SquishError(f"there is no configuration {name!r}: expected a file, or one of configs/: {', '.join(known)}")
