"""The original's rules, as its own code has them."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget, BudgetUnit

COPIED = 0.7  #: share of the limit that is left of a long summary, and that the copied opening takes
LONGEST = 1.5  #: a summary over its limit, and under this many times it, is cut
COVERED = 0.8  #: of the documents, a contender must have more than this

NOTE = (
    "By the original's rules: summaries that score 0 are dropped before the mean, and a contender is kept that has "
    f"more than {COVERED:.0%} of the documents then. Summaries over their budget, by less than half of it, were cut to "
    f"int({COPIED} * limit) before they were scored."
)


def shortened(text: str, limit: int, budget: Budget, counter: PreTrainedTokenizerBase | None) -> str:
    """The first int(0.7 * limit) of a text, counted as its budget counts; characters with all their white space."""
    kept = int(COPIED * limit)  # in binary floating point, as there: 62 of 90
    return text[:kept] if budget.unit.absolute is BudgetUnit.CHARACTERS else budget.cut(text, kept, counter)


def is_shortened(length: int, limit: int) -> bool:
    """Whether a summary is so little over its limit that it is cut."""
    return limit < length < LONGEST * limit


def is_kept(documents: int, asked: int) -> bool:
    """Whether a contender has enough of the documents to be ranked."""
    return documents > asked * COVERED
