"""Where the names and numbers of a text are, by their letters and digits alone."""

from __future__ import annotations

import re

from squish_pl.benchmark.sentences import sentence_spans, word_spans

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_POSSESSIVE = ("'s", "’s")


def name_spans(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of each name: words with a capital, not at a sentence's beginning, and runs of them.

    Single letters are none, and a possessive's ending is not of the name.
    """
    found: list[tuple[int, int]] = []
    for first, last in sentence_spans(text):
        goes_on = False  # whether the word before may have this one in its run
        for start, end in word_spans(text, first, last)[1:]:
            word = text[start:end]
            if not (word[0].isupper() and len(word) > 1):
                goes_on = False
                continue
            ending = 2 if word.endswith(_POSSESSIVE) else 0
            if goes_on and found and text[found[-1][1] : start] == " ":
                start = found.pop()[0]
            found.append((start, end - ending))
            goes_on = not ending
    return found


def number_spans(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of each number, in digits, with the points and commas within."""
    return [number.span() for number in _NUMBER.finditer(text)]
