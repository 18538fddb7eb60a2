"""Where the sentences of a text are, and its words, without a trained model."""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

# after these a full stop does not end a sentence; single capitals and numbers, Punkt knows by itself
_ABBREVIATIONS = (
    "mr mrs ms dr prof rev hon st jr sr gen col lt sgt capt gov sen rep vs etc e.g i.e cf al a.m p.m u.s u.k u.n d.c "
    "inc ltd co corp dept est approx jan feb mar apr jun jul aug sep sept oct nov dec"
)
_NO_SPACES = "\u3040-\u30ff\u3400-\u9fff"  # Chinese and Japanese characters
_WORDS = re.compile(rf"[{_NO_SPACES}]|[^\W\d_{_NO_SPACES}]+(?:['’-][^\W\d_{_NO_SPACES}]+)*")
_FULL_WIDTH = re.compile(r"[^。！？]+[。！？]*|[。！？]+")  # Punkt knows no Chinese or Japanese


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of each sentence of a text, white space around it left out.

    None goes over the end of a line, since news come with a paragraph on each line.
    """
    punkt = _punkt()
    spans, first = [], 0
    for line in text.splitlines(keepends=True):
        for start, end in punkt.span_tokenize(line):
            for part in _FULL_WIDTH.finditer(line, start, end):
                sentence = part.group()
                if sentence.strip():
                    left = first + part.start() + len(sentence) - len(sentence.lstrip())
                    spans.append((left, left + len(sentence.strip())))
        first += len(line)
    return spans


def split_sentences(text: str) -> list[str]:
    """The sentences of a text; see `sentence_spans`."""
    return [text[start:end] for start, end in sentence_spans(text)]


def words(text: str) -> list[str]:
    """The words of a text, numbers left out; single characters where a script has no spaces between words."""
    return _WORDS.findall(text)


def word_spans(text: str, start: int = 0, end: int = sys.maxsize) -> list[tuple[int, int]]:
    """Characters [start, end) of each word of a text, or of a part of it; see `words`."""
    return [word.span() for word in _WORDS.finditer(text, start, end)]


@cache
def _punkt() -> Any:
    # imported late: an extra that most work does without
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    # Punkt with our abbreviations in place of those of its trained model, which is a download
    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS.split())
    return PunktSentenceTokenizer(parameters)
