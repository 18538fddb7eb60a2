"""Summaries that need no model, to be shown beside every one that does."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import BudgetError
from squish_pl.lm.cutting import cut_to_tokens


def lead(document: str, budget: Budget, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """The copying baseline: the document's own opening, cut to the budget; one in tokens needs the tokenizer."""
    limit = budget.limit(document, tokenizer)
    opening = document.lstrip()  # white space at the ends of a summary does not count
    if not budget.unit.counts_tokens:
        return opening[:limit].rstrip()
    if tokenizer is None:
        raise BudgetError(f"the budget {budget} counts tokens, so it needs the reference's tokenizer")
    return cut_to_tokens(opening, tokenizer, limit).rstrip()
