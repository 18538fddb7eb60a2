"""Chats to one text: what was said, called and returned, in a block for each message.

    {"role": "user", "content": "Mend the test."}                   user: Mend the test.
    {"role": "assistant", "content": null, "tool_calls": [...]}     assistant: [call read_file {"path": "a.py"}]
    {"role": "tool", "content": "def a(): ..."}                     tool: def a(): ...
    {"from": "human", "value": "Thanks."}                           user: Thanks.

Both common forms are read: `role` and `content`, which may be a text or a list of parts, as chat models' interfaces
have them, and `from` and `value` (ShareGPT). Blocks are parted by a blank line, and a message that says nothing has
none. Of a part that is no text (a picture) its kind is told, in square brackets.

Whatever a message says stays its own: a line in it that looks like the beginning of another block is set in by a space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CHATS = ("messages", "conversations")  #: the fields in which chats usually are

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "function_call": "assistant"}
_ROLES |= {"observation": "tool", "function_response": "tool", "function": "tool"}
_KNOWN = {"system", "developer", "user", "assistant", "tool"}


def transcript(messages: Sequence[Any]) -> str:
    """The text of a chat.

    Args:
        messages: Each with a `role`, a `content` (a text, parts, or nothing) and perhaps `tool_calls`, or with `from`
            and `value`.

    Raises:
        ValueError: It is none; the message says why, as the end of a sentence.
    """
    if not messages:
        raise ValueError("has no messages")
    said: list[tuple[str, str]] = []
    for number, message in enumerate(messages, 1):
        try:
            said.append(_said(message))
        except ValueError as error:
            raise ValueError(f"has a message (number {number}) {error}") from None
        except RecursionError:
            raise ValueError(f"has a message (number {number}) that is nested too deeply") from None
    names = "|".join(map(re.escape, sorted(_KNOWN | {role for role, _ in said})))
    beginning = re.compile(rf"(?<=\n)([^\S\n]*\n)(?=(?:{names}):)", re.IGNORECASE)
    return "\n\n".join(f"{role}: " + beginning.sub(r"\1 ", text) for role, text in said if text)


def _said(message: Any) -> tuple[str, str]:
    """A message's role and what it says; nothing where that is blank."""
    if not isinstance(message, Mapping):
        raise ValueError(f"that is no object but {type(message).__name__}")
    given = _first(message, "role", "from")
    role = " ".join(given.split()) if isinstance(given, str) else ""
    if not role:
        raise ValueError("without a role")
    content = _first(message, "content", "value")
    if role == "function_call" and isinstance(content, str):
        said = [_call(_parsed(content))]
    else:
        calls = _first(message, "tool_calls") or [c for c in [_first(message, "function_call")] if c]
        if not isinstance(calls, list):
            raise ValueError(f"whose tool_calls are no list but {type(calls).__name__}")
        said = [*_content(content), *map(_call, calls)]
    return _ROLES.get(role, role), "\n".join(text for text in said if text.strip())


def _content(content: Any) -> Iterator[str]:
    if content is None:
        return
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            yield from _part(part)
    else:
        raise ValueError(f"whose content is no text but {type(content).__name__}")


def _part(part: Any) -> Iterator[str]:
    """A text, a call of a tool, what it gave, or the kind of anything else."""
    if isinstance(part, str):
        yield part
        return
    if not isinstance(part, Mapping):
        raise ValueError(f"with a part that is no text but {type(part).__name__}")
    kind = part.get("type")
    if isinstance(part.get("text"), str):
        yield part["text"]
    elif kind == "tool_use":
        yield _call(part)
    elif kind == "tool_result":
        yield from _content(part.get("content"))
    else:
        yield f"[{kind or 'part'}]"


def _call(call: Any) -> str:
    """A tool's name and arguments: under `function`, as most have them, or at the call itself."""
    if not isinstance(call, Mapping):
        return f"[call {call}]"
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    given = _first(function, "arguments", "input")
    if given is None:
        given = ""
    # Parquet has values, such as times, that JSON has not
    told = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)
    return f"[call {function.get('name') or 'tool'} {told}".rstrip() + "]"


def _parsed(call: str) -> Any:
    """A call that is written as JSON; as it is where it is none."""
    try:
        return json.loads(call)
    except ValueError:
        return call


def _first(fields: Mapping[str, Any], *names: str) -> Any:
    """The first of some fields that holds anything: the columns of Parquet are there with nothing in them."""
    return next((fields[name] for name in names if fields.get(name) is not None), None)
