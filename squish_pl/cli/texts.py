"""Texts on the command line: a file's, standard input's, or written there themselves."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from squish_pl.data.summaries import read_text
from squish_pl.errors import DataError

STDIN, TEXT = "-", "text:"
_LIKE_A_PATH = re.compile(
    r"(?:\.{0,2}|~)/.*|.*\.[a-z]\w{1,5}", re.DOTALL
)  # ./article, or at its end .txt, .jsonl, .md5


class NamedText(NamedTuple):
    """A text of the command line.

    Attributes:
        name: What to call it: the file's name without its ending.
        text: The text.
        origin: Where it comes from, for people.
    """

    name: str
    text: str
    origin: str


def text_of(argument: str, name: str) -> NamedText:
    """The text that an argument stands for.

    `-` is standard input, `text:` stands before a text. A file that exists is read. What is left is a text if it has a
    space or a line break in it and does not look like a path; everything else is a file that is not there.

    Args:
        argument: As it stands on the command line.
        name: What to call a text without a file.

    Raises:
        DataError: A file or standard input cannot be read, or the argument might be either.
    """
    if argument == STDIN:
        return NamedText(name, _standard_input(name), "standard input")
    if argument.startswith(TEXT):
        return NamedText(name, argument.removeprefix(TEXT), "the command line")
    if _is_file(argument):
        return NamedText(Path(argument).stem, read_text(argument), argument)
    if not _reads_as_text(argument):
        short = argument if len(argument) <= 60 else argument[:59] + "…"
        raise DataError(f"there is no file {short!r}; if that is the {name} itself, write {TEXT} before it")
    return NamedText(name, argument, "the command line")


def texts_of(argument: str, name: str) -> list[NamedText]:
    """One text, or those of several files separated by commas; see `text_of`.

    Raises:
        DataError: See `text_of`.
    """
    parts = [part.strip() for part in argument.split(",") if part.strip()]
    several = len(parts) > 1 and not argument.startswith(TEXT) and not _is_file(argument)
    if several and (any(map(_is_file, parts)) or not any(re.search(r"\s", part) for part in parts)):
        return [text_of(part, name) for part in parts]
    return [text_of(argument, name)]


def told(texts: Sequence[NamedText]) -> str:
    """What was understood, in one line."""
    return "; ".join(f"{one.name}: {len(one.text):,} characters from {one.origin}" for one in texts)


def _is_file(argument: str) -> bool:
    return os.path.isfile(os.path.expanduser(argument))  # false for what is too long for a path, unlike pathlib's


def _reads_as_text(argument: str) -> bool:
    words = argument.strip()
    return "\n" in argument or (re.search(r"\s", words) is not None and not _LIKE_A_PATH.fullmatch(words))


def _standard_input(name: str) -> str:
    if sys.stdin is None:
        raise DataError(f"expected the {name} on standard input, but there is none")
    if sys.stdin.isatty():
        print(f"paste the {name}, then end it with Ctrl-D on a line of its own:", file=sys.stderr)
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("standard input is not UTF-8 text: convert it") from None
