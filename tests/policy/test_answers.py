"""The summary in an answer: reasoning stands before it, and what stands inside it is text."""

from __future__ import annotations

import pytest

from squish_pl.policy.answers import find_summary, without_thought
from squish_pl.policy.prompts import PromptTemplate

TEMPLATE = PromptTemplate()
QUOTES = "The post says to write </think> before answering."


@pytest.mark.parametrize(
    ("answer", "summary"),
    [
        (f"<summary>{QUOTES}</summary>", QUOTES),
        (f"Sure! <summary>{QUOTES}</summary> Anything else?", QUOTES),
        (f"<think>Hm.</think><summary>{QUOTES}</summary>", QUOTES),
        (f"Hm.</think>\n<summary>{QUOTES}</summary>", QUOTES),
        (f"<think>The post is about </think> itself.</think>\n<summary>{QUOTES}</summary>", QUOTES),
        (f"<summary>Draft.</summary> No.</think><summary>{QUOTES}</summary>", QUOTES),
        (f"<summary>{QUOTES}</summary> That is my draft.</think><summary>Final.</summary>", "Final."),
        (f"<summary>{QUOTES}</summary> I left </think> as it is.", QUOTES),
        (f"<summary>{QUOTES}</summary></think>", QUOTES),
        ("<summary>Two: </think> and </think>.</summary>", "Two: </think> and </think>."),
        ("<think>Between <summary> and </summary>.</think>Here: <summary>S.</summary>", "S."),
        ("I write <summary> soon.</think><summary>S.</summary>", "S."),
        ("<summary>Draft.</summary> Shorter.</think>\n\n<summary>S.</summary>", "S."),
        ("Nothing yet.</think>Maybe <summary>no.</summary> again</think><summary>S.</summary>", "S."),
        ("<think>Between <summary> and </summary>, so", None),
        (f"<summary>{QUOTES}", None),
        ("<think>Hm.</think>", None),
        ("Hm.</think>No tags.", None),
        # a document about the tag itself
        ("<summary>The tag <summary> opens it.</summary>", "The tag <summary> opens it."),
        ("Here it is:\n<summary>The tag <summary> opens it.</summary>", "The tag <summary> opens it."),
        ("<summary>Write </think>, then <summary>.</summary>", "Write </think>, then <summary>."),
        ("It stands behind <summary>: <summary>S.</summary>", "S."),
        ("No opening tag.</summary>", "No opening tag."),
    ],
)
def test_the_summary_in_an_answer(answer: str, summary: str | None) -> None:
    assert find_summary(without_thought(answer, TEMPLATE), TEMPLATE) == summary


@pytest.mark.parametrize(
    ("answer", "summary"),
    [
        (QUOTES, QUOTES),
        ('Write "</think>" first.', 'Write "</think>" first.'),
        (f"<think>Hm.</think>{QUOTES}", QUOTES),
        (f"Hm.</think>\n\n{QUOTES}", f"\n\n{QUOTES}"),
        (f"Hm.\n</think>{QUOTES}", QUOTES),
        ("Hm.</think>S.", "S."),
        ("<think>So", ""),
    ],
)
def test_a_bare_answer(answer: str, summary: str) -> None:
    assert without_thought(answer, TEMPLATE, bare=True) == summary


def test_the_policys_own_answer_keeps_a_quoted_tag() -> None:
    assert TEMPLATE.parse(f"{QUOTES}</summary>") == QUOTES
