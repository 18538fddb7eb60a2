"""Documents and budgets are planned without their prompts, and put together by cap and length."""

from __future__ import annotations

import pytest
from local_models import DOCUMENTS, PROMPT, word_tokenizer
from tiny import make_byte_tokenizer

from squish_pl.benchmark.contenders import portions as planning
from squish_pl.benchmark.contenders.portions import Group, Planner, portions
from squish_pl.benchmark.records import Task
from squish_pl.budget import Budget
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.types import Document


def test_a_cap_follows_from_budget_and_document() -> None:
    planner = Planner(PROMPT, make_byte_tokenizer(), word_tokenizer(), 4096, None)
    tasks = [Task(Document("ab cd ef gh ij kl"), budget) for budget in ("50%", "50% tokens", "200 chars")]
    # 8 characters are 8 tokens: 2 * 8 + 16 = 32; 3 of 6 words are half of 17 tokens; 200: 416
    assert [group.most for group in planner.groups(tasks)] == [64, 64, 512]
    # 20 characters of 60 bytes, and as many tokens: half of them are 30, so that 2 * 30 + 16 = 76
    (group,) = planner.groups([Task(Document("東京" * 10), "50% bytes")])
    assert (str(group.budget), group.most) == ("30 bytes", 128)
    assert [group.cap for group in Planner(PROMPT, make_byte_tokenizer(), word_tokenizer(), 4096, 9).groups(tasks)] == [
        9
    ] * 3


@pytest.mark.parametrize("chat", [False, True])
def test_the_prompt_is_as_long_as_was_planned(chat: bool) -> None:
    own, counter = make_byte_tokenizer(chat=chat), word_tokenizer()
    planner = Planner(PROMPT, own, counter, 200, None)
    documents = [*DOCUMENTS, Document("</s> as text, é and 雪"), Document("")]
    tasks = [
        Task(d, b, s)
        for b in ("35%", "35% tokens", "7 chars", "1 token", "35% bytes")
        for d in documents
        for s in (0, 1)
    ]
    groups = planner.groups(tasks)
    assert [group.tasks for group in groups] == [tasks[i : i + 2] for i in range(0, len(tasks), 2)]
    for group in groups:
        task = group.tasks[0]
        limit = Budget.parse(task.budget).limit(task.document.text, counter)
        prompt = planner.prompt(group)
        assert group.prompt_tokens == len(prompt.token_ids) == 200 - group.room
        assert f"\n{Budget.parse(task.budget).describe(limit)}\n" in prompt.text
        assert prompt.budget.limit(task.document.text, counter) == limit
        assert prompt.document == task.document


def test_a_document_is_counted_once_and_no_prompt_is_written_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    own, counter = make_byte_tokenizer(), word_tokenizer()
    counted, built = [], []
    count, build = planning.count_tokens, PromptTemplate.build
    monkeypatch.setattr(planning, "count_tokens", lambda t, text: counted.append((t is own, text)) or count(t, text))
    monkeypatch.setattr(PromptTemplate, "build", lambda self, d, *a: built.append(d.text) or build(self, d, *a))
    texts = [document.text for document in DOCUMENTS]
    tasks = [Task(d, b) for b in ("10%", "20% tokens", "30% tokens", "9 tokens") for d in DOCUMENTS]
    Planner(PROMPT, own, own, 4096, None).groups(tasks)
    assert counted == [(True, text) for text in texts]
    assert set(built) == {""}
    counted.clear()
    Planner(PROMPT, own, counter, 4096, None).groups(tasks)
    assert sorted(counted) == sorted((mine, text) for mine in (True, False) for text in texts)


def test_portions_are_of_one_cap_and_short_prompts_come_first() -> None:
    budget = Budget.parse("9 chars")
    groups = [Group([], budget, tokens, most, 100 - tokens) for tokens, most in ((50, 8), (10, 16), (30, 8), (40, 8))]
    groups.append(Group([], budget, 95, 16, 5))  # its context is full after five
    found = [[(group.cap, group.prompt_tokens) for group in portion] for portion in portions(groups, 2)]
    assert found == [[(5, 95)], [(8, 30), (8, 40)], [(8, 50)], [(16, 10)]]
