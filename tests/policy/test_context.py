"""Whether everything fits into a model's context, by hand."""

import pytest
from tiny import make_byte_tokenizer

from squish_pl.budget import Budget
from squish_pl.policy.context import context_problems
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document

# around a document: <s>, a sign, "999999 characters", "<summary>"
PROMPT, AROUND = PromptTemplate(instruction="{document}|{limit}"), 1 + 1 + 17 + 9
TEMPLATE = ScoreTemplate(frame="<<{summary}>>")


def problems(context, max_tokens=50, max_new_tokens=20, budgets=("5 chars",), prompt=PROMPT, template=TEMPLATE):
    return context_problems(prompt, template, budgets, max_new_tokens, make_byte_tokenizer(), context, max_tokens)


# behind a summary
CLOSING = len("</summary>")


def test_prompt_document_and_completion():
    need = AROUND + 20 + 50
    assert problems(need) == []
    assert problems(need - 1) == [
        f"data.max_tokens (50), prompt ({AROUND} tokens around the document) and model.rollout.max_new_tokens (20) "
        f"take {need} tokens together, but the model reads {need - 1}: set data.max_tokens to 49 or less"
    ]


def test_the_prompt_that_is_built_is_the_one_that_was_counted():
    prompt = PROMPT.build(Document("d" * 50), Budget.parse("999999 chars"), make_byte_tokenizer())
    assert len(prompt.token_ids) == AROUND + 50


def test_a_longer_frame_of_the_score():
    template = ScoreTemplate(frame="f" * 40 + "{summary}")
    need = 1 + 40 + 20 + 50
    assert problems(need, template=template) == []
    (problem,) = problems(need - 1, template=template)
    assert f"take {need} tokens together" in problem
    assert "set data.max_tokens to 49 or less" in problem


@pytest.mark.parametrize(
    ("budgets", "cap", "of"),
    [
        (["20%", "4%"], 10 + 5 + CLOSING + 16, "20%"),  # half more for characters
        (["30% tokens", "20%"], 15 + CLOSING + 16, "30% tokens"),
        (["30 tokens"], 30 + CLOSING + 16, "30 tokens"),
        (["22 chars"], 6 + 3 + CLOSING + 16, "22 chars"),  # four of a token, before a document is known
    ],
)
def test_without_a_number_the_budgets_tell(budgets, cap, of):
    need = AROUND + cap + 50
    assert problems(need, max_new_tokens=None, budgets=budgets) == []
    (problem,) = problems(need - 1, max_new_tokens=None, budgets=budgets)
    assert f"and the longest summary ({cap} tokens, of {of}) take {need} tokens together" in problem


@pytest.mark.parametrize(
    ("budgets", "least", "what"),
    [
        (["5 chars", "20%", "10%"], 10 + CLOSING, "a summary of 20% of data.max_tokens (50) and its closing tag take"),
        (["30% tokens"], 15 + CLOSING, "a summary of 30% tokens of data.max_tokens (50) and its closing tag take"),
        (["7 tokens"], 7 + CLOSING, "a summary of 7 tokens and its closing tag take"),
        (["9 chars"], 3 + CLOSING, "a summary of 9 chars and its closing tag take"),
    ],
)
def test_a_number_that_cannot_hold_the_longest_summary(budgets, least, what):
    assert problems(200, max_new_tokens=least, budgets=budgets) == []
    assert problems(200, max_new_tokens=least - 1, budgets=budgets) == [
        f"model.rollout.max_new_tokens is {least - 1}, but {what} {least} tokens: set it to {least} or more, or leave "
        "it out, and it follows from each budget"
    ]


def test_shares_of_documents_without_a_limit_tell_nothing():
    assert problems(200, None, CLOSING, ["100%"]) == []
    (problem,) = problems(200, None, CLOSING - 1, ["100%"])
    assert problem.startswith(
        "model.rollout.max_new_tokens is 9, but the closing tag alone takes 10 tokens: set it to 10"
    )


@pytest.mark.parametrize("cap", [None, 60])
@pytest.mark.parametrize("budgets", [["100%"], ["5 chars"], ["7%", "3% tokens"]])
def test_the_advice_helps_and_asks_for_no_more_than_it_must(budgets, cap):
    for context in range(AROUND + 60, 190):
        for problem in problems(context, max_new_tokens=cap, budgets=budgets):
            if problem.endswith(" lower"):
                assert problems(context, 1, cap, budgets) != []
                continue
            room = int(problem.rpartition(" to ")[2].removesuffix(" or less"))
            assert 0 < room < 50
            assert problems(context, room, cap, budgets) == []
            assert problems(context, room + 1, cap, budgets) != []


def test_no_limit_on_documents():
    assert problems(AROUND + 20, max_tokens=None, budgets=["100%"]) == []
    assert problems(AROUND + 19, max_tokens=None, budgets=["100%"]) == [
        f"prompt ({AROUND} tokens around the document) and model.rollout.max_new_tokens (20) take {AROUND + 20} tokens "
        f"together, but the model reads {AROUND + 19}: set model.rollout.max_new_tokens lower"
    ]
    (problem,) = problems(AROUND + 20, max_tokens=None, max_new_tokens=None, budgets=["100%"])
    assert problem.endswith("set model.rollout.budgets lower")


def test_no_document_would_be_short_enough():
    (problem,) = problems(AROUND + 20)
    assert problem.endswith("set model.rollout.max_new_tokens lower")
    (problem,) = problems(AROUND + 21)
    assert problem.endswith("set data.max_tokens to 1 or less")
