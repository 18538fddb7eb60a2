"""A chat template that asks for a summary just as the policy's prompt does, for servers that know templates alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import ModelError
from squish_pl.policy.prompts import DOCUMENT_FIELD, LIMIT_FIELD, THOUGHTS, PromptTemplate
from squish_pl.types import Document

_PROBE = Document('First line.\n\nA second line, with "quotes" and \\ signs.')
_BUDGET = Budget.parse("37 chars")

# `limit` comes from the request's chat_template_kwargs: the user's message is then the document alone
_MESSAGES = """{%- set squish = namespace(messages=[]) -%}
{%- if limit is defined and squish_system and messages[0]['role'] != 'system' -%}
{%- set squish.messages = [{'role': 'system', 'content': squish_system}] -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{%- set written = squish_open + message['content'] + squish_close -%}
{%- elif message['role'] == 'user' and limit is defined -%}
{%- set written = request -%}
{%- else -%}
{%- set written = message['content'] -%}
{%- endif -%}
{%- set squish.messages = squish.messages + [{'role': message['role'], 'content': written}] -%}
{%- endfor -%}
{%- set messages = squish.messages -%}
"""
_BARE = "{{- bos_token or '' -}}{%- for message in messages -%}{{- message['content'] -}}{%- endfor -%}"


def policy_chat_template(prompt: PromptTemplate, tokenizer: PreTrainedTokenizerBase) -> str:
    """A chat template (Jinja) whose answers begin and end as the policy's do.

    It opens the summary's tag behind the last message, and puts what an assistant said between both tags. With the
    argument `limit` ("412 characters"), a user's message is the document alone, and the request is written around it;
    without, messages are left as they are.

    Args:
        prompt: How the policy was asked.
        tokenizer: The base's; its own template is kept inside, unless `prompt.chat` is never.

    Raises:
        SquishError: The policy's prompt cannot be written by a template.
    """
    wanted = prompt.build(_PROBE, _BUDGET, tokenizer).text
    for template in _candidates(prompt, tokenizer):
        try:
            found = tokenizer.apply_chat_template(
                [{"role": "user", "content": _PROBE.text}],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
                limit=_BUDGET.describe(_BUDGET.limit(_PROBE.text)),
            )
        except Exception:  # a chat template is a program that comes with the model
            continue
        if found == wanted:
            return template
    raise ModelError(
        "the policy's prompt cannot be written as a chat template of this tokenizer: prompt it with plain text, as its "
        "adapter's card tells"
    )


def _candidates(prompt: PromptTemplate, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Templates of which one writes the policy's prompt: with the base's own thoughts left alone, told off, closed."""
    names = {"squish_system": prompt.system, "squish_open": prompt.open_tag, "squish_close": prompt.close_tag}
    values = "".join(f"{{%- set {name} = {_literal(text)} -%}}" for name, text in names.items())
    head = values + _MESSAGES.replace("= request ", f"= {_request(prompt.instruction)} ")
    tail = "{% if add_generation_prompt %}{{ squish_open }}{% endif %}"
    own = tokenizer.chat_template if prompt.chat != "never" else None
    if not own:
        yield head + _BARE + tail
        return
    # transformers' own template of several, and without the line break that ends its file
    own = tokenizer.get_chat_template().removesuffix("\n")
    told = "{%- set enable_thinking = false -%}{%- set thinking = false -%}"
    yield head + own + tail
    yield head + told + own + tail
    for closing in THOUGHTS.values():
        closed = f"{{{{ frame.rstrip() + {_literal(chr(10) * 2 + closing + chr(10) * 2)} }}}}"
        yield (
            head + told + "{% set frame %}" + own + "{% endset %}"
            f"{{% if add_generation_prompt %}}{closed}{{{{ squish_open }}}}{{% else %}}{{{{ frame }}}}{{% endif %}}"
        )


def _request(instruction: str) -> str:
    """The instruction as a Jinja expression of the document and the limit."""
    names = {DOCUMENT_FIELD: "message['content']", LIMIT_FIELD: "limit"}
    parts: list[str] = []
    rest = instruction
    while rest:
        found = [(rest.find(field), field) for field in names if field in rest]
        place, field = min(found, default=(len(rest), ""))
        parts += [_literal(rest[:place])] if place else []
        parts += [names[field]] if field else []
        rest = rest[place + len(field) :]
    return " + ".join(parts)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
