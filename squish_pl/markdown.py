"""Text from outside in Markdown."""

from __future__ import annotations

import html


def escape(text: str) -> str:
    """Text that stays text in a Markdown table shown as HTML: one line, no tags, links, emphasis or columns.

    Signs that mean something only at the beginning of a line, or behind one that is escaped, stay readable.
    """
    flat = html.escape(" ".join(text.split()))
    for sign in "\\`*_{}[]|~":
        flat = flat.replace(sign, f"&#{ord(sign)};")
    return flat
