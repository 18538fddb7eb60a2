"""Whether documents, prompts and summaries fit into a model's context, found before its weights are read."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.lm.tokens import count_tokens
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document


def context_problems(
    prompt: PromptTemplate,
    template: ScoreTemplate,
    budgets: Sequence[str],
    max_new_tokens: int,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    max_tokens: int | None,
) -> list[str]:
    """Whether the longest document fits into the model beside prompt, summary and completion.

    Args:
        prompt: Of the policy.
        template: Of the score.
        budgets: Of the validation, under which the copying baseline is scored.
        max_new_tokens: Cap on a completion.
        tokenizer: The model's.
        context: The longest row the model can read, tokens.
        max_tokens: The longest document, tokens; None if there is no limit (then each prompt is checked as it comes).
    """
    around = len(prompt.build(Document(""), Budget.parse("999999 chars"), tokenizer).token_ids)
    frame = count_tokens(tokenizer, template.render("")) + 1
    share = max([float(b.value) for b in map(Budget.parse, budgets) if b.unit.is_share] or [0.0])

    def need(document: int) -> int:
        # behind the frame stands a summary, or, as the copying baseline, at most the largest budget's share
        longer = max(0, int(share * document) - max_new_tokens)
        return max(around, frame + longer) + max_new_tokens + document

    if need(max_tokens or 0) <= context:
        return []
    what = f"prompt ({around} tokens around the document) and model.rollout.max_new_tokens ({max_new_tokens})"
    advice = "set model.rollout.max_new_tokens lower"
    if max_tokens is not None:
        what = f"data.max_tokens ({max_tokens}), {what}"
        room = next((tokens for tokens in range(max_tokens - 1, 0, -1) if need(tokens) <= context), 0)
        advice = f"set data.max_tokens to {room} or less" if room else advice
    return [f"{what} take {need(max_tokens or 0)} tokens together, but the model reads {context}: {advice}"]
