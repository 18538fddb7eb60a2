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
from squish_pl.lm.tokens import count_tokens

_PATTERN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<share>%)?\s*(?P<unit>[a-z]*)")
_EXAMPLES = 'a budget such as "10%", "500 chars", "5% tokens" or "64 tokens"'


class BudgetUnit(enum.Enum):
    """What a budget counts, and whether it is a share of the document or an absolute number."""

    CHARACTER_SHARE = "% chars"
    CHARACTERS = "chars"
    TOKEN_SHARE = "% tokens"
    TOKENS = "tokens"

    @property
    def counts_tokens(self) -> bool:
        """True for tokens of the reference's tokenizer, false for characters (Unicode code points)."""
        return self in (BudgetUnit.TOKEN_SHARE, BudgetUnit.TOKENS)

    @property
    def is_share(self) -> bool:
        """True where the number is a share of the document."""
        return self in (BudgetUnit.CHARACTER_SHARE, BudgetUnit.TOKEN_SHARE)


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
            text: "10%" (of the characters), "500 chars", "5% tokens" or "64 tokens"; a `Budget` is returned as it is.

        Raises:
            BudgetError: The text is no budget, allows nothing, or is a share above 100 %.
        """
        if isinstance(text, Budget):
            return text
        match = _PATTERN.fullmatch(str(text).strip().lower())
        words = ("", "char", "chars", "character", "characters")
        units = dict.fromkeys(words, "chars") | {"token": "tokens", "tokens": "tokens"}
        if match is None or match["unit"] not in units:
            raise BudgetError(f"expected {_EXAMPLES}, but got {text!r}")
        if not match["share"] and not match["unit"]:
            raise BudgetError(f"expected {_EXAMPLES}, but got {text!r}: say what it counts (%, chars or tokens)")
        value, unit = Fraction(match["number"]), BudgetUnit(("% " if match["share"] else "") + units[match["unit"]])
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
        return f"{percent.normalize():f}%" + (" tokens" if self.unit.counts_tokens else "")

    def limit(self, document: str, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
        """The longest summary allowed for a document, in characters or tokens: `floor(share * length)`.

        Args:
            document: The document's text.
            tokenizer: The reference's tokenizer; needed only for a share of the tokens.
        """
        return self.limit_of(self.length(document, tokenizer) if self.unit.is_share else 0)

    def limit_of(self, length: int) -> int:
        """The longest summary allowed for a document whose length in the budget's unit is known."""
        return int(self.value * length) if self.unit.is_share else int(self.value)

    def length(self, text: str, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
        """A text's length in the budget's unit: characters (code points), or tokens without special ones."""
        if not self.unit.counts_tokens:
            return len(text)
        if tokenizer is None:
            raise BudgetError(f"the budget {self} counts tokens, so it needs the reference's tokenizer")
        return count_tokens(tokenizer, text)

    def used(self, summary: str, limit: int, tokenizer: PreTrainedTokenizerBase | None = None) -> float:
        """Length used: a summary's length by its limit; above 1 over the budget, infinite where nothing is allowed."""
        length = self.length(summary, tokenizer)
        return length / limit if limit else math.inf if length else 0.0

    def allows(self, summary: str, document: str, tokenizer: PreTrainedTokenizerBase | None = None) -> bool:
        """Whether a summary is no longer than the budget allows for a document."""
        return self.length(summary, tokenizer) <= self.limit(document, tokenizer)

    def describe(self, limit: int) -> str:
        """The limit in words for a prompt: "412 characters", "1 token"."""
        noun = "token" if self.unit.counts_tokens else "character"
        return f"{limit} {noun}" + ("" if limit == 1 else "s")
