"""Chats to one text: what was said, called and returned, in a block for each message.

    {"role": "user", "content": "Mend the test."}                   user: Mend the test.
    {"role": "assistant", "content": null, "tool_calls": [...]}     assistant: [call read_file {"path": "a.py"}]
    {"role": "tool", "content": "def a(): ..."}                     tool: def a(): ...

Blocks are parted by a blank line. Contents may be a text or a list of parts, as the chat interfaces of models have
them; of a part that is no text (a picture) its kind is told, in square brackets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MESSAGES = "messages"  #: the field that a record without a text is looked for


def transcript(messages: Sequence[Any]) -> str:
    """The text of a chat.

    Args:
        messages: Each with a `role`, a `content` (a text, parts, or nothing) and perhaps `tool_calls`.

    Raises:
        ValueError: It is none; the message says why, as the end of a sentence.
    """
    if not messages:
        raise ValueError("has no messages")
    return "\n\n".join(_block(message, number) for number, message in enumerate(messages, 1))


def _block(message: Any, number: int) -> str:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(f"has a message without a role (number {number})")
    said = [*_content(message.get("content"), number), *map(_call, message.get("tool_calls") or ())]
    return f"{message['role']}: " + "\n".join(text for text in said if text)


def _content(content: Any, number: int) -> Iterator[str]:
    if content is None:
        return
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence):
        for part in content:
            yield from _part(part, number)
    else:
        raise ValueError(f"has a message (number {number}) whose content is no text but {type(content).__name__}")


def _part(part: Any, number: int) -> Iterator[str]:
    """A text, a call of a tool, what it gave, or the kind of anything else."""
    if isinstance(part, str):
        yield part
        return
    if not isinstance(part, Mapping):
        raise ValueError(f"has a message (number {number}) with a part that is no text but {type(part).__name__}")
    kind = part.get("type")
    if isinstance(part.get("text"), str):
        yield part["text"]
    elif kind == "tool_use":
        yield _call(part)
    elif kind == "tool_result":
        yield from _content(part.get("content"), number)
    else:
        yield f"[{kind or 'part'}]"


def _call(call: Any) -> str:
    """A tool's name and arguments: under `function`, as most have them, or at the call itself."""
    call = call if isinstance(call, Mapping) else {}
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    given = next((function[key] for key in ("arguments", "input") if function.get(key) is not None), "")
    told = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return f"[call {function.get('name') or 'tool'} {told}".rstrip() + "]"
