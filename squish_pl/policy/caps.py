"""How many tokens a completion may take: a number that is given, or what its budget takes.

    limit of L tokens              least = L + closing tag          cap = least + 16
    limit of L characters, bytes   w = tokens of the document's     cap = 1.5 w + closing tag + 16
                                   first L, least = w + closing tag

Where the policy thinks first, it writes the opening tag too, and the cap on its thought is added to both numbers. Few
completions come near their cap, since one that has outgrown its budget ends before. The half more is for summaries that
are denser in tokens than the document's opening (names, numbers), the 16 for white space and words that were written in
more tokens than they need. Where the prompt leaves less of the model's context than the cap, but room for `least`, that
is the cap. Each completion's own cap counts, so nothing depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import DataError
from squish_pl.lm.tokens import count_tokens
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.types import Prompt

MARGIN = 16  #: tokens
_CHARACTERS_PER_TOKEN = 4  # or bytes, of English text, for what is known before any document is


def completion_caps(
    prompts: Sequence[Prompt],
    given: int | None,
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    counter: PreTrainedTokenizerBase | None = None,
) -> list[int]:
    """Most new tokens behind each prompt, those of a thought among them.

    Args:
        prompts: With documents and budgets.
        given: The same number for all summaries; None lets each budget decide.
        template: Has the tags, and the cap on a thought.
        tokenizer: The model's.
        context: The longest row the model can read, tokens.
        counter: Counts budgets in tokens, where it is not the model's own tokenizer.

    Raises:
        DataError: A prompt leaves too little of the context.
    """
    return [_cap(prompt, given, template, tokenizer, context, counter) for prompt in prompts]


def _cap(
    prompt: Prompt,
    given: int | None,
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    counter: PreTrainedTokenizerBase | None,
) -> int:
    room, thought = context - len(prompt.token_ids), template.thought_tokens
    summary = least_tokens(prompt, template, tokenizer, counter) if given is None else given
    least = thought + summary
    if room < least:
        document = prompt.document
        raise DataError(
            f"the prompt of document {document.id or document.text[:40]!r} has {len(prompt.token_ids)} tokens, but the "
            f"model has room for {context - least} beside {least} new ones: set data.max_tokens lower"
        )
    if given is not None:
        return least
    tags = count_tokens(tokenizer, template.written_tags)
    return min(room, thought + _with_slack(prompt.budget, summary - tags, tags))


def least_tokens(
    prompt: Prompt,
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    counter: PreTrainedTokenizerBase | None = None,
) -> int:
    """Tokens of a summary that fills its budget in the document's own words, and of the tags that it writes."""
    budget, text = prompt.budget, prompt.document.text
    limit = budget.limit(text, tokenizer if counter is None else counter)
    tags = count_tokens(tokenizer, template.written_tags)
    opening = "" if budget.unit.counts_tokens else budget.cut(text.lstrip(), limit)
    if not opening:
        return limit + tags
    # a limit beyond the document's end goes on in the same way
    return -(-count_tokens(tokenizer, opening) * limit // budget.length(opening)) + tags


def largest_need(
    budgets: Iterable[str],
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    document: int | None,
) -> tuple[int, int, str]:
    """What the longest summary takes, its thought left out, as far as can be told before any document is read.

    Args:
        budgets: Of the run. A share of the characters or bytes is taken for the same share of the tokens.
        template: Has the tags.
        tokenizer: The model's.
        document: Tokens of the longest document; None if there is no limit, and shares then tell nothing.

    Returns:
        Least tokens, the cap, and the budget that they are of; "" for that of the tags alone.
    """
    tags = count_tokens(tokenizer, template.written_tags)
    found = [(tags, tags + MARGIN, "")]
    for name in budgets:
        budget = Budget.parse(name)
        if budget.unit.is_share:
            if document is None:
                continue
            tokens = budget.limit_of(document)
        else:
            tokens = -(-int(budget.value) // (1 if budget.unit.counts_tokens else _CHARACTERS_PER_TOKEN))
        found.append((tokens + tags, _with_slack(budget, tokens, tags), str(budget)))
    return max(found)


def _with_slack(budget: Budget, tokens: int, tags: int) -> int:
    return (tokens if budget.unit.counts_tokens else tokens + (tokens + 1) // 2) + tags + MARGIN
