"""Configurations by name: --config 3090.yaml is looked up in configs/, then among those that come with the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from squish_pl.errors import SquishError

_FLAGS = ("--config", "-c")
_SHIPPED = Path(__file__).resolve().parents[1] / "configs"


def find_configs(arguments: list[str]) -> list[str]:
    """Puts the path of each configuration in the place of its name.

    A path that exists is taken as it is; otherwise configs/ of the working folder is searched, then what comes with the
    package.

    Raises:
        SquishError: There is no such configuration; the message names those there are.
    """
    found = list(arguments)
    for place, before, name in _named(arguments):
        found[place] = before + find_config(name)
    return found


def named_configs(arguments: list[str]) -> list[str]:
    """The configurations that arguments name."""
    return [name for _, _, name in _named(arguments)]


def names_key(arguments: list[str], key: str) -> bool:
    """Whether arguments, or a configuration among them, set a key of the top level."""
    if any(argument.startswith((f"--{key}=", f"--{key}+")) or argument == f"--{key}" for argument in arguments):
        return True
    return any(key in content for content in readable_configs(arguments))


def readable_configs(arguments: list[str]) -> Iterator[dict[str, Any]]:
    """The configurations that arguments name; whoever reads one in earnest will say so where it cannot be read."""
    for path in named_configs(arguments):
        with suppress(SquishError):
            yield read_config(path)


def read_config(path: str) -> dict[str, Any]:
    """The content of a configuration; empty where it is no mapping.

    Raises:
        SquishError: It cannot be read.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SquishError(f"the configuration {path} cannot be read: {' '.join(str(error).split())}") from None
    return content if isinstance(content, dict) else {}


def _named(arguments: list[str]) -> Iterator[tuple[int, str, str]]:
    """Where configurations are named: the argument's place, what stands in it before the name, the name."""
    for i, argument in enumerate(arguments):
        flag, equals, name = argument.partition("=")
        if flag in _FLAGS and equals:
            yield i, f"{flag}=", name
        elif argument in _FLAGS and i + 1 < len(arguments):
            yield i + 1, "", arguments[i + 1]


def find_config(name: str) -> str:
    """The path of one configuration."""
    folders = [Path("configs"), _SHIPPED]
    for candidate in (Path(name).expanduser(), *(folder / name for folder in folders)):
        if candidate.is_file():
            return str(candidate)
    known = sorted({file.name for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})
    raise SquishError(f"there is no configuration {name!r}: expected a file, or one of these: {', '.join(known)}")
