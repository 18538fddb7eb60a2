"""How many tokens a completion may take: a number that is given, or what its budget takes.

    limit of L tokens              least = L + closing tag          cap = least + 16
    limit of L characters, bytes   w = tokens of the document's     cap = 1.5 w + closing tag + 16
                                   first L, least = w + closing tag

Few completions come near their cap, since one that has outgrown its budget ends before. The half more is for summaries
that are denser in tokens than the document's opening (names, numbers), the 16 for white space and words that were
written in more tokens than they need. Where the prompt leaves less of the model's context than the cap, but room for
`least`, that is the cap. Each completion's own cap counts, so nothing depends on its neighbours.
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
    """Most new tokens behind each prompt.

    Args:
        prompts: With documents and budgets.
        given: The same number for all; None lets each budget decide.
        template: Has the closing tag.
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
    room = context - len(prompt.token_ids)
    least = least_tokens(prompt, template, tokenizer, counter) if given is None else given
    if room < least:
        document = prompt.document
        raise DataError(
            f"the prompt of document {document.id or document.text[:40]!r} has {len(prompt.token_ids)} tokens, but the "
            f"model has room for {context - least} beside {least} new ones: set data.max_tokens lower"
        )
    if given is not None:
        return given
    closing = count_tokens(tokenizer, template.close_tag)
    return min(room, _with_slack(prompt.budget, least - closing, closing))


def least_tokens(
    prompt: Prompt,
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    counter: PreTrainedTokenizerBase | None = None,
) -> int:
    """Tokens of a summary that fills its budget in the document's own words, and of the closing tag."""
    budget, text = prompt.budget, prompt.document.text
    limit = budget.limit(text, tokenizer if counter is None else counter)
    closing = count_tokens(tokenizer, template.close_tag)
    opening = "" if budget.unit.counts_tokens else budget.cut(text.lstrip(), limit)
    if not opening:
        return limit + closing
    # a limit beyond the document's end goes on in the same way
    return -(-count_tokens(tokenizer, opening) * limit // budget.length(opening)) + closing


def largest_need(
    budgets: Iterable[str],
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    document: int | None,
) -> tuple[int, int, str]:
    """What the longest summary takes, as far as can be told before any document is read.

    Args:
        budgets: Of the run. A share of the characters or bytes is taken for the same share of the tokens.
        template: Has the closing tag.
        tokenizer: The model's.
        document: Tokens of the longest document; None if there is no limit, and shares then tell nothing.

    Returns:
        Least tokens, the cap, and the budget that they are of; "" for that of the closing tag alone.
    """
    closing = count_tokens(tokenizer, template.close_tag)
    found = [(closing, closing + MARGIN, "")]
    for name in budgets:
        budget = Budget.parse(name)
        if budget.unit.is_share:
            if document is None:
                continue
            tokens = budget.limit_of(document)
        else:
            tokens = -(-int(budget.value) // (1 if budget.unit.counts_tokens else _CHARACTERS_PER_TOKEN))
        found.append((tokens + closing, _with_slack(budget, tokens, closing), str(budget)))
    return max(found)


def _with_slack(budget: Budget, tokens: int, closing: int) -> int:
    return (tokens if budget.unit.counts_tokens else tokens + (tokens + 1) // 2) + closing + MARGIN
