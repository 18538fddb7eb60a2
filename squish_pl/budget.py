"""Budgets: how long a summary may be."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from transformers import PreTrainedTokenizerBase

from squish_pl.errors import BudgetError
from squish_pl.lm.cutting import cut_to_tokens
from squish_pl.lm.tokens import count_tokens

_PATTERN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<share>%)?\s*(?P<unit>[a-z]*)")
_EXAMPLES = 'a budget such as "10%", "500 chars", "5% tokens", "64 tokens" or "300 bytes"'
_WORDS = {
    "chars": ("", "char", "chars", "character", "characters"),
    "tokens": ("token", "tokens"),
    "bytes": ("byte", "bytes"),
}
_UNITS = {word: unit for unit, words in _WORDS.items() for word in words}
_NOUNS = {"chars": "character", "tokens": "token", "bytes": "byte"}


class BudgetUnit(enum.Enum):
    """What a budget counts, and whether it is a share of the document or an absolute number."""

    CHARACTER_SHARE = "% chars"
    CHARACTERS = "chars"
    TOKEN_SHARE = "% tokens"
    TOKENS = "tokens"
    BYTE_SHARE = "% bytes"
    BYTES = "bytes"

    @property
    def counts_tokens(self) -> bool:
        """True for tokens of the reference's tokenizer; characters (Unicode code points) and bytes need none."""
        return self.absolute is BudgetUnit.TOKENS

    @property
    def counts_bytes(self) -> bool:
        """True for bytes of the text in UTF-8."""
        return self.absolute is BudgetUnit.BYTES

    @property
    def is_share(self) -> bool:
        """True where the number is a share of the document."""
        return self is not self.absolute

    @property
    def absolute(self) -> BudgetUnit:
        """What is counted, without the share."""
        return BudgetUnit(self.value.removeprefix("% "))


@dataclass(frozen=True, slots=True)
class Budget:
    """A cap on a summary's length.

    Attributes:
        value: The number; a share is kept as an exact fraction (10 % is 1/10), so that no limit is off by one for
            a binary rounding of the share.
        unit: What is counted.
    """

    value: Fraction
    unit: BudgetUnit

    def __post_init__(self) -> None:
        if not isinstance(self.value, (Fraction, int)):
            raise TypeError(
                f"expected an exact Fraction, but got {self.value!r}: Budget.parse reads a budget from text"
            )

    @classmethod
    def parse(cls, text: str | Budget) -> Budget:
        """Reads a budget.

        Args:
            text: "10%" (of the characters), "500 chars", "5% tokens", "64 tokens", "10% bytes" or "300 bytes" (of
                UTF-8); a `Budget` is returned as it is.

        Raises:
            BudgetError: The text is no budget, allows nothing, or is a share above 100 %.
        """
        if isinstance(text, Budget):
            return text
        match = _PATTERN.fullmatch(str(text).strip().lower())
        if match is None or match["unit"] not in _UNITS:
            raise BudgetError(f"expected {_EXAMPLES}, but got {text!r}")
        if not match["share"] and not match["unit"]:
            raise BudgetError(f"expected {_EXAMPLES}, but got {text!r}: say what it counts (%, chars, tokens or bytes)")
        value, unit = Fraction(match["number"]), BudgetUnit(("% " if match["share"] else "") + _UNITS[match["unit"]])
        if unit.is_share:
            value /= 100
        elif value.denominator != 1:
            raise BudgetError(f"expected a whole number of {unit.value}, but got {text!r}")
        if value <= 0:
            raise BudgetError(f"expected a budget above zero, but got {text!r}: no summary could meet it")
        if unit.is_share and value > 1:
            raise BudgetError(f"expected a share of at most 100%, but got {text!r}")
        return cls(value, unit)

    @classmethod
    def problems(cls, texts: Iterable[str]) -> list[str]:
        """Why those that are no budgets are none."""
        found = []
        for text in texts:
            try:
                cls.parse(text)
            except BudgetError as error:
                found.append(str(error))
        return found

    def __str__(self) -> str:
        if not self.unit.is_share:
            return f"{self.value} {self.unit.value.removesuffix('s') if self.value == 1 else self.unit.value}"
        percent = Decimal(self.value.numerator) * 100 / Decimal(self.value.denominator)
        of = self.unit.absolute
        return f"{percent.normalize():f}%" + ("" if of is BudgetUnit.CHARACTERS else f" {of.value}")

    def limit(self, document: str, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
        """The longest summary allowed for a document, in what the budget counts: `floor(share * length)`.

        Args:
            document: The document's text.
            tokenizer: The reference's tokenizer; needed only for a share of the tokens.
        """
        return self.limit_of(self.length(document, tokenizer) if self.unit.is_share else 0)

    def limit_of(self, length: int) -> int:
        """The longest summary allowed for a document whose length in the budget's unit is known."""
        return int(self.value * length) if self.unit.is_share else int(self.value)

    def length(self, text: str, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
        """A text's length in the budget's unit: characters (code points), UTF-8 bytes, or tokens without special ones.

        Raises:
            BudgetError: It counts tokens, and there is no tokenizer.
        """
        if self.unit.counts_tokens:
            return count_tokens(self._counter(tokenizer), text)
        return len(_utf8(text)) if self.unit.counts_bytes else len(text)

    def cut(self, text: str, limit: int, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
        """The beginning of a text that is at most so long, whole characters, without white space at its end.

        Args:
            text: Any text.
            limit: In the budget's unit, at least 0.
            tokenizer: See `limit`.

        Raises:
            BudgetError: It counts tokens, and there is no tokenizer.
        """
        if self.unit.counts_tokens:
            text = cut_to_tokens(text, self._counter(tokenizer), limit)
        elif self.unit.counts_bytes:
            text = _utf8(text)[:limit].decode(errors="ignore")  # what is left of a character that was cut through
        else:
            text = text[:limit]
        return text.rstrip()

    def used(self, summary: str, limit: int, tokenizer: PreTrainedTokenizerBase | None = None) -> float:
        """Length used: a summary's length by its limit; above 1 over the budget, infinite where nothing is allowed."""
        length = self.length(summary, tokenizer)
        return length / limit if limit else math.inf if length else 0.0

    def allows(self, summary: str, document: str, tokenizer: PreTrainedTokenizerBase | None = None) -> bool:
        """Whether a summary is no longer than the budget allows for a document."""
        return self.length(summary, tokenizer) <= self.limit(document, tokenizer)

    def describe(self, limit: int) -> str:
        """The limit in words for a prompt: "412 characters", "1 token"."""
        return f"{limit} {_NOUNS[self.unit.absolute.value]}" + ("" if limit == 1 else "s")

    def _counter(self, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
        if tokenizer is None:
            raise BudgetError(f"the budget {self} counts tokens, so it needs the reference's tokenizer")
        return tokenizer


def _utf8(text: str) -> bytes:
    """A text's bytes; half of a surrogate pair, which is no character, counts as the question mark it becomes."""
    return text.encode("utf-8", "replace")
