"""The exported chat template asks as the policy is asked."""

from __future__ import annotations

import pytest
from tiny import make_byte_tokenizer
from transformers import PreTrainedTokenizerFast

from squish_pl.budget import Budget
from squish_pl.errors import ModelError
from squish_pl.policy.chat_template import policy_chat_template
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.types import Document

DOCUMENT = Document('A "quoted" line.\n\n{{ not jinja }} {% if x %} \\n <summary> {limit} Zoë 雪')
BUDGET = Budget.parse("17 tokens")

_THINKING = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n"
    "{% endif %}{% endif %}\n"
)
_ALWAYS_THINKING = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n<think>\n{% endif %}"
)

CASES = {
    "bare": (PromptTemplate(), None),
    "chat": (PromptTemplate(), "chat"),
    "chat never": (PromptTemplate(chat="never"), "chat"),
    "system": (PromptTemplate(system='Be "brief".'), "chat"),
    "limit first": (PromptTemplate("At most {limit}, of\n{document}\n'now' \\", "<s1>", "</s1>"), "chat"),
    "no limit": (PromptTemplate("{document}"), "chat"),
    "thinking": (PromptTemplate(), _THINKING),
    "always thinking": (PromptTemplate(), _ALWAYS_THINKING),
}


def tokenizer_of(template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = make_byte_tokenizer(chat=template == "chat")
    if template not in (None, "chat"):
        tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("case", CASES)
def test_with_a_limit_it_is_the_policys_prompt(case: str) -> None:
    prompt, template = CASES[case]
    tokenizer = tokenizer_of(template)
    expected = prompt.build(DOCUMENT, BUDGET, tokenizer)
    tokenizer.chat_template = policy_chat_template(prompt, tokenizer)
    chat = [{"role": "user", "content": DOCUMENT.text}]
    found = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, limit="17 tokens")
    assert found == expected.text
    if prompt.chat != "never":  # this project can ask the exported model as it asked the policy
        assert prompt.build(DOCUMENT, BUDGET, tokenizer) == expected


def test_without_a_limit_messages_stay_as_they_are_and_answers_stand_between_the_tags() -> None:
    tokenizer = make_byte_tokenizer(chat=True)
    tokenizer.chat_template = policy_chat_template(PromptTemplate(system="Never shown."), tokenizer)
    chat = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
    ]
    asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    turns = "<s>user\nOne?</s>\n<s>assistant\n<summary>1</summary></s>\n<s>user\nTwo?</s>\n"
    assert asked == turns + "<s>assistant\n<summary>"
    assert tokenizer.apply_chat_template(chat, tokenize=False) == turns


def test_a_base_without_a_template_is_prompted_with_plain_text() -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = policy_chat_template(PromptTemplate(), tokenizer)
    chat = [{"role": "user", "content": "Say it."}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == "<s>Say it.<summary>"


def test_a_template_that_cannot_be_followed_is_refused() -> None:
    tokenizer = make_byte_tokenizer()
    # it looks at the date of the request, so to say: never twice the same
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if limit is defined %}x{% endif %}"
    )
    with pytest.raises(ModelError, match="cannot be written as a chat template"):
        policy_chat_template(PromptTemplate(), tokenizer)
