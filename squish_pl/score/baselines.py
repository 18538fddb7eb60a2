"""Summaries that need no model, to be shown beside every one that does."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from squish_pl.cutting import cut_to_tokens
from squish_pl.score.budget import Budget


def lead(document: str, budget: Budget, tokenizer: PreTrainedTokenizerBase) -> str:
    """The copying baseline: the document's own opening, cut to the budget."""
    limit = budget.limit(document, tokenizer)
    opening = document.lstrip()  # white space at the ends of a summary does not count
    return (cut_to_tokens(opening, tokenizer, limit) if budget.unit.counts_tokens else opening[:limit]).rstrip()
