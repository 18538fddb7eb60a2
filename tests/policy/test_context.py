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
# in front of a scored document, beside the summary: <s> and four signs
TEMPLATE, FRAME = ScoreTemplate(frame="<<{summary}>>"), 1 + 4


def problems(context, max_tokens=50, max_new_tokens=10, budgets=("5 chars",), prompt=PROMPT, template=TEMPLATE):
    return context_problems(prompt, template, budgets, max_new_tokens, make_byte_tokenizer(), context, max_tokens)


def test_prompt_document_and_completion():
    need = AROUND + 10 + 50
    assert problems(need) == []
    assert problems(need - 1) == [
        f"data.max_tokens (50), prompt ({AROUND} tokens around the document) and model.rollout.max_new_tokens (10) "
        f"take {need} tokens together, but the model reads {need - 1}: set data.max_tokens to 49 or less"
    ]


def test_the_prompt_that_is_built_is_the_one_that_was_counted():
    prompt = PROMPT.build(Document("d" * 50), Budget.parse("999999 chars"), make_byte_tokenizer())
    assert len(prompt.token_ids) == AROUND + 50


def test_a_longer_frame_of_the_score():
    template = ScoreTemplate(frame="f" * 40 + "{summary}")
    need = 1 + 40 + 10 + 50
    assert problems(need, template=template) == []
    (problem,) = problems(need - 1, template=template)
    assert f"take {need} tokens together" in problem
    assert "set data.max_tokens to 49 or less" in problem


@pytest.mark.parametrize(
    ("budgets", "summary"),
    [
        (["100%"], 50),
        (["10%", "100% tokens", "9000 tokens"], 50),
        (["80%", "10%"], 40),
        (["10%"], 10),  # the completion may be longer
        (["1 token"], 10),
    ],
)
def test_the_copying_baseline_may_be_longer_than_a_completion(budgets, summary):
    need = max(AROUND + 10 + 50, FRAME + summary + 50)
    assert problems(need, budgets=budgets) == []
    (problem,) = problems(need - 1, budgets=budgets)
    assert f"take {need} tokens together, but the model reads {need - 1}" in problem


@pytest.mark.parametrize("budgets", [["100%"], ["5 chars"]])
def test_the_advice_helps_and_asks_for_no_more_than_it_must(budgets):
    for context in range(AROUND + 10 + 1, 105):
        for problem in problems(context, budgets=budgets):
            room = int(problem.rpartition(" to ")[2].removesuffix(" or less"))
            assert 0 < room < 50
            assert problems(context, room, budgets=budgets) == []
            assert problems(context, room + 1, budgets=budgets) != []


def test_no_limit_on_documents():
    assert problems(AROUND + 10, max_tokens=None, budgets=["100%"]) == []
    assert problems(AROUND + 9, max_tokens=None, budgets=["100%"]) == [
        f"prompt ({AROUND} tokens around the document) and model.rollout.max_new_tokens (10) take {AROUND + 10} tokens "
        f"together, but the model reads {AROUND + 9}: set model.rollout.max_new_tokens lower"
    ]


def test_no_document_would_be_short_enough():
    (problem,) = problems(AROUND + 10)
    assert problem.endswith("set model.rollout.max_new_tokens lower")
    (problem,) = problems(AROUND + 11)
    assert problem.endswith("set data.max_tokens to 1 or less")
