"""Figures and foreign text as the page shows them."""

from __future__ import annotations

import math
import re

NOTHING = "–"  #: where there is no figure
MINUS = "−"  #: as wide as a plus, unlike the hyphen

# control characters but tab and line breaks, halves of surrogate pairs, and what Unicode calls no character
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """The text with a replacement sign for each character that HTML or UTF-8 does not have; as long as before."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def number(value: float | None, digits: int = 4, signed: bool = False) -> str:
    """With so many decimals; `signed` puts a plus before what is above zero."""
    if value is None or not math.isfinite(value):
        return NOTHING
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{'+' if signed and rounded > 0 else ''}{rounded:,.{digits}f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """In per cent."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.0%}".replace("-", MINUS)


def dollars(value: float | None) -> str:
    """Small sums with four decimals."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"${value:,.2f}" if value == 0 or value >= 1 else f"${value:.4f}"


def duration(seconds: float) -> str:
    """The two units that matter."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"
