"""When a growing completion has to be read again.

To read all of a completion at every step costs more than the step does. Few tokens can end one: to close the summary a
token must bring the last sign of the closing tag, and to outgrow the budget there must be enough text. So what each
token adds at most is added up, and the text is read where that could be too much, or where the sign has come:

    room = limit - length when it was read last - the most that each token since can have added

What is decided is what reading at every step would decide.
"""

from __future__ import annotations

from tokenizers import decoders
from transformers import PreTrainedTokenizerBase

from squish_pl.budget import BudgetUnit

_WIDEST = 12  # bytes that normalisation can make of one: a ligature may become a phrase
_MARGIN = 4  # tokens: a word's end may be cut up otherwise once something follows it


class Pieces:
    """What a token can add to a text at most, and whether it can complete the closing tag.

    Args:
        tokenizer: Decodes the tokens.
        counter: Counts budgets in tokens.
        close_tag: Ends a summary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, counter: PreTrainedTokenizerBase, close_tag: str) -> None:
        self._tokenizer = tokenizer
        last = close_tag[-1:]
        # any other sign may be in pieces, or be taken off and put back
        self._sign = last if last.isascii() and last.isprintable() and not last.isspace() else None
        exact = isinstance(getattr(_backend(tokenizer), "decoder", None), decoders.ByteLevel)
        self._joint = 0 if exact else 1  # other decoders may put a space between two tokens
        self._plain = getattr(_backend(counter), "normalizer", "unknown") is None
        self._known: dict[int, tuple[str, int, bool]] = {}

    def may_close(self, token: int) -> bool:
        """Whether the closing tag can be complete with this token."""
        return self._piece(token)[2]

    def most(self, token: int, unit: BudgetUnit) -> int:
        """The most that a token adds to the length of a text, in what a budget counts."""
        piece, least, _ = self._piece(token)
        if least:  # bytes that are no characters by themselves: each may become a replacement character
            characters, size = least, 3 * least
        else:
            characters, size = len(piece), len(piece.encode("utf-8", "replace"))
        if unit.counts_tokens:
            return self.tokens(size, piece.isascii()) + self._joint
        return (size if unit.counts_bytes else characters) + self._joint

    def tokens(self, size: int, ascii: bool) -> int:
        """The most tokens of so many bytes of text."""
        return size if ascii or self._plain else _WIDEST * size

    def _piece(self, token: int) -> tuple[str, int, bool]:
        """(text, bytes where it is no whole text, whether it may close)."""
        known = self._known.get(token)
        if known is None:
            piece = str(self._tokenizer.decode([token], skip_special_tokens=True, clean_up_tokenization_spaces=False))
            name = str(self._tokenizer.convert_ids_to_tokens(token) or "")
            parts = max(len(name), len(piece)) if "\ufffd" in piece else 0
            known = piece, parts, self._sign is None or self._sign in piece or self._sign in name
            self._known[token] = known
        return known


def room_left(pieces: Pieces, unit: BudgetUnit, limit: int, text: str, settled: str, length: int) -> int:
    """What can be added to a text that has just been read before it can have outgrown its budget.

    Args:
        pieces: What tokens add.
        unit: What the budget counts.
        limit: Of the budget.
        text: All that was read.
        settled: The beginning of it that was measured.
        length: Of `settled`, in the budget's unit.
    """
    if unit.counts_tokens:
        rest = len(text.encode("utf-8", "replace")) - len(settled.encode("utf-8", "replace"))
        return limit - length - pieces.tokens(rest, text.isascii()) - _MARGIN
    # what was not measured, such as white space at the end, may yet count
    return limit - (len(text.encode("utf-8", "replace")) if unit.counts_bytes else len(text))


def _backend(tokenizer: PreTrainedTokenizerBase) -> object:
    return getattr(tokenizer, "backend_tokenizer", None)
