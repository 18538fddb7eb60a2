"""Whether documents, prompts and summaries fit into a model's context, found before its weights are read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.policy.caps import largest_need
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document


def context_problems(
    prompt: PromptTemplate,
    template: ScoreTemplate,
    budgets: Sequence[str],
    max_new_tokens: int | None,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    max_tokens: int | None,
) -> list[str]:
    """Whether the longest summary fits into the cap, and the longest document into the model beside it.

    Args:
        prompt: Of the policy.
        template: Of the score.
        budgets: Of training and validation.
        max_new_tokens: Cap on a summary with its tags; None lets its budget decide.
        tokenizer: The model's.
        context: The longest row the model can read, tokens.
        max_tokens: The longest document, tokens; None if there is no limit (then each prompt is checked as it comes).
    """
    least, _, longest = largest_need(budgets, prompt, tokenizer, max_tokens)
    found = []
    if max_new_tokens is not None and max_new_tokens < least:
        of = f" of data.max_tokens ({max_tokens})" if longest.endswith(("%", "% tokens")) else ""
        tags, alone = "closing tag", "the closing tag alone takes"
        if prompt.thinking is not None:
            tags, alone = "tags", "the tags alone take"
        what = f"a summary of {longest}{of} and its {tags} take" if longest else alone
        found.append(
            f"model.rollout.max_new_tokens is {max_new_tokens}, but {what} {least} tokens: set it to {least} or more, "
            "or leave it out, and it follows from each budget"
        )
    around = len(prompt.build(Document(""), Budget.parse("999999 chars"), tokenizer).token_ids)
    frame = len(template.frame_ids(tokenizer, "")) + 1

    def cap(document: int) -> int:
        if max_new_tokens is not None:
            return max_new_tokens
        return largest_need(budgets, prompt, tokenizer, document)[1]

    def need(document: int) -> int:
        # in front of a scored document stands the frame with a summary, and never a thought
        return max(around + prompt.thought_tokens, frame) + cap(document) + document

    total = need(max_tokens or 0)
    if total <= context:
        return found
    summary, setting = f"model.rollout.max_new_tokens ({max_new_tokens})", "max_new_tokens"
    if max_new_tokens is None:
        summary, setting = f"the longest summary ({cap(max_tokens or 0)} tokens, of {longest})", "budgets"
    thought = f", model.prompt.thinking.max_tokens ({prompt.thought_tokens})" if prompt.thought_tokens else ""
    what = f"prompt ({around} tokens around the document){thought} and {summary}"
    advice = f"set model.rollout.{setting}{' or model.prompt.thinking.max_tokens' if thought else ''} lower"
    if max_tokens is not None:
        what = f"data.max_tokens ({max_tokens}), {what}"
        room = bisect_right(range(max_tokens), context, key=need) - 1
        advice = f"set data.max_tokens to {room} or less" if room > 0 else advice
    return [*found, f"{what} take {total} tokens together, but the model reads {context}: {advice}"]
