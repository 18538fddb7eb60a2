"""Summaries that need no model, to be shown beside every one that does."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget


def lead(document: str, budget: Budget, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """The copying baseline: the document's own opening, cut to the budget; one in tokens needs the tokenizer."""
    # white space at the ends of a summary does not count
    return budget.cut(document.lstrip(), budget.limit(document, tokenizer), tokenizer)


def lead_key(key: str) -> str:
    """The key of the copied opening's score, beside a summary's own key: "lead" for SQUISH, "lead_novel", ..."""
    return "lead" if key == "squish" else f"lead_{key}"
