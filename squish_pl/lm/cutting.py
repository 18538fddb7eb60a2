"""Cutting a text to a number of tokens, or at a sentence's end."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from squish_pl.lm.tokens import count_tokens, encode_with_offsets

_REACH = 8  # tokens behind the limit in which a longer prefix that fits is looked for
_REACH_CHARACTERS = 16  # the same for tokenizers that do not say where their tokens lie
_CHARACTERS_PER_TOKEN = 8  # generous: how much of a long text is tokenised at first

# a full stop ends no sentence behind an initial or a title, nor before a small letter
_NO_END = r"(?<!\b[A-Z])(?<!\b(?:Mr|Ms|Dr|St|Lt|vs))(?<!\b(?:Mrs|Gen|Col|Rep|Sen|Gov|Sgt))(?<!\bProf)"
_SENTENCE_END = re.compile(rf"{_NO_END}\.[\"'”’)\]]*(?=\s+[^\sa-z])|[!?][\"'”’)\]]*(?=\s)|[。！？]|(?=\n)")


def cut_to_tokens(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> str:
    """The longest beginning of a text that has at most so many tokens and does not end in whitespace.

    It is the cut text's own tokens that count, without special ones. They may differ from the first tokens of the
    whole text, since a word that is cut is tokenised differently, so prefixes are tokenised again until one fits.

    Args:
        text: Any text.
        tokenizer: The tokenizer that counts. A slow one is supported, but slow.
        max_tokens: Tokens, at least 1.

    Returns:
        The text itself, whitespace included, where it fits; "" where not even its first character does.
    """
    end = _upper_bound(text, tokenizer, max_tokens)
    if end is None:
        return text
    # A beginning may have more tokens than a longer one, so nothing but trying them in turn finds the longest.
    while end > 0:
        cut = text[:end].rstrip()
        if count_tokens(tokenizer, cut) <= max_tokens:
            return cut
        end = len(cut) - 1
    return ""


def cut_to_sentences(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of a text that fits and ends where a sentence or a line does, as it is without a model.

    Args:
        text: Any text.
        fits: Whether a beginning, without white space at its end, is short enough.

    Returns:
        "" where not even the first sentence fits.
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text)]
    beginnings = (text[:end].rstrip() for end in reversed(ends))
    return next((beginning for beginning in beginnings if fits(beginning)), "")


def split_sentences(text: str) -> list[str]:
    """A text's sentences, and lines without a full stop, as they can be told without a model; white space stripped."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [part for start, end in pairwise(ends) if (part := text[start:end].strip())]


def _upper_bound(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> int | None:
    """Characters that no fitting prefix exceeds, or None where the whole text fits."""
    if not tokenizer.is_fast:
        return _upper_bound_by_bisection(text, tokenizer, max_tokens)
    size = _CHARACTERS_PER_TOKEN * (max_tokens + 2 * _REACH)
    while True:
        head = text[:size]
        encoded = encode_with_offsets(tokenizer, head)
        # Where the head ends inside the text, its last tokens may not be those of the text.
        if len(encoded.input_ids) > max_tokens + 2 * _REACH or len(head) == len(text):
            break
        size *= 2
    if len(encoded.input_ids) <= max_tokens:
        return None
    # Only a prefix that ends in the word of the first token too many can still fit: words are tokenised one by one.
    words = encoded.word_ids()
    last = max_tokens
    while last + 1 < len(words) and words[last + 1] == words[max_tokens] and last < max_tokens + _REACH:
        last += 1
    return int(encoded.offset_mapping[last][1])


def _upper_bound_by_bisection(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> int | None:
    if count_tokens(tokenizer, text) <= max_tokens:
        return None
    low, high = 0, len(text)  # text[:low] fits, text[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        if count_tokens(tokenizer, text[:middle]) <= max_tokens:
            low = middle
        else:
            high = middle
    return min(low + _REACH_CHARACTERS, len(text))
