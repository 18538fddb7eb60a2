"""Text that can be drawn: names and documents hold characters that no font has, or that no file may hold."""

from __future__ import annotations

import unicodedata
from functools import cache

from squish_pl.errors import SquishError

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # matplotlib brings both

# for scripts that those two lack; what is installed of these is used
_MORE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
)
_LONGEST_NAME = 34  # characters
_NO_GLYPH = "□"


def shortened(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name on one line that can be drawn, with its middle left out where it is long: ends often tell names apart."""
    name = drawable(name) or _NO_GLYPH
    if len(name) <= longest:
        return name
    head = (longest - 1) // 2
    return f"{name[:head].rstrip()}…{name[-(longest - 1 - head) :].lstrip()}"


def drawable(text: str) -> str:
    """Text on one line of which every character has a glyph."""
    return "".join(map(glyph, " ".join(text.split())))


def glyph(character: str) -> str:
    """What is drawn for a character: itself, a space, a box where no font has it, or nothing."""
    if character.isspace():
        return " "
    if unicodedata.category(character) in ("Cc", "Cf"):  # controls, and signs that turn the direction of writing
        return ""
    return character if any(has_glyph(character, family) for family in fonts()) else _NO_GLYPH


def has_glyph(character: str, family: str) -> bool:
    """Whether a font family has it."""
    return ord(character) in _characters(family)


@cache
def fonts(first: str = SANS) -> tuple[str, ...]:
    """Font families in the order in which they are tried.

    Raises:
        SquishError: matplotlib is not installed.
    """
    try:
        from matplotlib import font_manager
    except ImportError as error:
        raise SquishError("charts need matplotlib: pip install 'squish-pl[benchmark]'") from error
    installed = set(font_manager.get_font_names())
    return tuple(dict.fromkeys([first, SANS, *(name for name in _MORE_FONTS if name in installed)]))


@cache
def _characters(family: str) -> frozenset[int]:
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont(family)).get_charmap())
