"""How many tokens a completion may take, by hand: a byte is a token, the closing tag has four."""

import logging

import pytest
from tiny import make_byte_tokenizer
from tiny_policies import make_policy

from squish_pl.budget import Budget
from squish_pl.errors import DataError
from squish_pl.lm.halving import Limit
from squish_pl.policy.caps import completion_caps, largest_need, least_tokens
from squish_pl.policy.engine import Engine
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings, sample
from squish_pl.types import Document, Finish

TOKENIZER = make_byte_tokenizer()
TEMPLATE = PromptTemplate(instruction="{document}|{limit}", open_tag="<", close_tag="#end")
TEXT = "€€€€€" + "a" * 95  # 100 characters; the first five of three tokens each


def prompt(budget, text=TEXT):
    return TEMPLATE.build(Document(text, "d"), Budget.parse(budget), TOKENIZER)


@pytest.mark.parametrize(
    ("budget", "tokens", "cap"),
    [
        ("10%", 15 + 5, 20 + 10 + 4 + 16),  # 10 characters of the opening, half more, tag and margin
        ("3 chars", 9, 9 + 5 + 4 + 16),  # half of 9 rounded up
        ("7 bytes", 7, 7 + 4 + 4 + 16),  # two of them make 6 bytes, of a token each: 7 at that rate
        ("200 chars", 2 * 110, 220 + 110 + 4 + 16),  # beyond the document's end at its own rate
        ("20% tokens", 22, 22 + 4 + 16),  # of 110
        ("7 tokens", 7, 7 + 4 + 16),
    ],
)
def test_what_a_budget_takes(budget, tokens, cap):
    assert least_tokens(prompt(budget), TEMPLATE, TOKENIZER) == tokens + 4
    assert completion_caps([prompt(budget)], None, TEMPLATE, TOKENIZER, 4096) == [cap]
    assert completion_caps([prompt(budget)], 9, TEMPLATE, TOKENIZER, 4096) == [9]


def test_a_document_without_text_tells_nothing():
    assert least_tokens(prompt("12 chars", ""), TEMPLATE, TOKENIZER) == 12 + 4


def test_before_any_document_is_known():
    asked = ["1%", "10%", "12 tokens", "90 chars"]
    assert largest_need(asked, TEMPLATE, TOKENIZER, 4096) == (409 + 4, 409 + 205 + 4 + 16, "10%")
    assert largest_need(asked, TEMPLATE, TOKENIZER, 100) == (23 + 4, 23 + 12 + 4 + 16, "90 chars")
    assert largest_need(["1%"], TEMPLATE, TOKENIZER, None) == (4, 4 + 16, "")


def test_the_context_takes_of_the_cap_but_not_of_the_budget():
    one = prompt("10%")
    tokens, least, cap = len(one.token_ids), 24, 50

    def caps(room):
        return completion_caps([one], None, TEMPLATE, TOKENIZER, tokens + room)

    assert [caps(room) for room in (cap + 1, cap, cap - 1, least)] == [[cap], [cap], [cap - 1], [least]]
    with pytest.raises(
        DataError, match=rf"document 'd' has {tokens} tokens, but the model has room for .* beside 24 new"
    ):
        caps(least - 1)


def engine(backbone):
    plan = MemoryPlan(Costs(backbone), MemorySettings(), Limit("scoring pass", "tokens", 256))
    return Engine(backbone, plan, TEMPLATE, "auto")


def test_each_completion_has_its_own_cap_whatever_stands_beside_it():
    backbone = make_policy()
    prompts = [prompt("7 tokens"), prompt("20 tokens"), prompt("3 chars")]
    settings = SamplingSettings(temperature=1.0)
    in_engine = engine(backbone).sample(prompts, 4, settings, [1, 2, 3])
    together = sample(backbone.policy, TOKENIZER, TEMPLATE, prompts, 4, settings, [1, 2, 3])
    for i, (group, other, own, cap) in enumerate(zip(together, in_engine, prompts, (27, 40, 34), strict=True)):
        (alone,) = sample(backbone.policy, TOKENIZER, TEMPLATE, [own], 4, settings, [i + 1])
        assert group.token_ids[group.mask].tolist() == alone.token_ids[alone.mask].tolist()
        assert group.token_ids[group.mask].tolist() == other.token_ids[other.mask].tolist()
        assert group.lengths.max() <= cap
        assert all(n == cap for n, end in zip(group.lengths, group.finish, strict=True) if end == Finish.CAPPED)
    # bytes of broken characters and single words are never outgrown: the cap of 27 ends them
    assert Finish.CAPPED in together[0].finish


def test_memory_is_planned_for_the_largest_cap_in_hand(monkeypatch):
    backbone = make_policy()
    running = engine(backbone)
    asked = []
    rows = running.plan.rows
    monkeypatch.setattr(running.plan, "rows", lambda *a: asked.append(a[2]) or rows(*a))
    running.plan.rollout.value = 4
    running.sample([prompt("7 tokens"), prompt("20 tokens"), prompt("3 chars")], 4, SamplingSettings(), [1, 2, 3])
    assert asked == [40, 40, 34]


def test_a_number_that_the_documents_show_to_be_too_small_is_told_once(caplog):
    running = engine(make_policy())
    with caplog.at_level(logging.WARNING):
        running.sample([prompt("1 token"), prompt("10%")], 2, SamplingSettings(max_new_tokens=24), [1, 2])
        assert caplog.messages == []
        for _ in range(2):
            running.sample([prompt("1 token"), prompt("10%")], 2, SamplingSettings(max_new_tokens=23), [1, 2])
    assert caplog.messages == [
        "a summary of 10% of document 'd' takes some 24 tokens, but max_new_tokens is 23: longer ones are cut off "
        "unfinished; raise it, or leave it out"
    ]
