"""Chats become one text, from files and from the hub; what is no chat is skipped and counted."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from squish_pl.data.filters import document_id, read_documents
from squish_pl.data.skipped import Skipped
from squish_pl.data.sources import open_source
from squish_pl.data.transcripts import transcript
from squish_pl.errors import DataError
from squish_pl.types import Document

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "You mend code."},
    {"role": "user", "content": [{"type": "text", "text": "The test fails."}, {"type": "image_url", "image_url": {}}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a.py"}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "def a():\n    return 1"},
    {"role": "assistant", "content": "It returns 1."},
]
TEXT = (
    "system: You mend code.\n\n"
    "user: The test fails.\n[image_url]\n\n"
    'assistant: [call read {"path": "a.py"}]\n\n'
    "tool: def a():\n    return 1\n\n"
    "assistant: It returns 1."
)
SHARED = [
    {"from": "system", "value": "You mend code."},
    {"from": "human", "value": "The test fails."},
    {"from": "function_call", "value": '{"name": "read", "arguments": {"path": "a.py"}}'},
    {"from": "observation", "value": "def a():\n    return 1"},
    {"from": "gpt", "value": "It returns 1."},
]


def test_a_block_for_each_message() -> None:
    assert transcript(CHAT) == TEXT
    assert transcript(SHARED) == TEXT.replace("\n[image_url]", "")


PARTS = [
    ([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}], "One.\nTwo."),
    (["One.", {"type": "output_text", "text": "Two."}, " "], "One.\nTwo."),
    (
        [{"type": "text", "text": "Look."}, {"type": "tool_use", "name": "ls", "input": {"path": "é", "all": True}}],
        'Look.\n[call ls {"path": "é", "all": true}]',
    ),
    ([{"type": "tool_result", "content": "a.py"}, {"type": "tool_result"}], "a.py"),
    ([{"type": "tool_result", "content": [{"type": "text", "text": "a.py"}, {"type": "image"}]}], "a.py\n[image]"),
    ([{"type": "image_url", "image_url": {"url": "data:..."}}, {"data": 1}], "[image_url]\n[part]"),
    ([{"type": "text", "text": "Cut", "input": None, "content": None}], "Cut"),  # as the columns of Parquet have them
    (
        [{"type": "tool_use", "name": "now", "text": None, "input": {"at": datetime.date(2025, 1, 2)}}],
        '[call now {"at": "2025-01-02"}]',
    ),
]


@pytest.mark.parametrize(("content", "expected"), PARTS)
def test_parts(content: list[Any], expected: str) -> None:
    assert transcript([{"role": "user", "content": content}]) == "user: " + expected


CALLS = [
    ({"function": {"name": "ls", "arguments": {"n": 1}}}, '[call ls {"n": 1}]'),
    ({"function": {"name": "ls", "arguments": ""}}, "[call ls]"),
    ({"function": {"name": "ls"}}, "[call ls]"),
    ({"name": "ls", "input": {"n": 1}}, '[call ls {"n": 1}]'),
    ({}, "[call tool]"),
    ("ls -l", "[call ls -l]"),
]


@pytest.mark.parametrize(("call", "expected"), CALLS)
def test_calls(call: Any, expected: str) -> None:
    message = {"role": "assistant", "content": "I look.", "tool_calls": [call, {"name": "b"}], "function_call": None}
    assert transcript([message]) == f"assistant: I look.\n{expected}\n[call b]"
    if isinstance(call, dict):
        written = [{"from": "function_call", "value": json.dumps(call)}, {"role": "assistant", "function_call": call}]
        assert transcript(written) == f"assistant: {expected}" + (f"\n\nassistant: {expected}" if call else "")


def test_a_call_that_is_no_json_stays_as_it_is() -> None:
    assert transcript([{"from": "function_call", "value": "ls {"}]) == "assistant: [call ls {]"


def test_a_message_that_says_nothing_has_no_block() -> None:
    silent: list[dict[str, Any]] = [
        {"role": "system", "content": ""},
        {"role": "user"},
        {"role": "user", "content": [" \n"], "tool_calls": None},
        {"role": None, "content": None, "from": "human", "value": None},
    ]
    assert transcript(silent) == ""
    assert transcript([*silent, *CHAT, *silent]) == TEXT


def test_what_a_message_says_makes_no_other_message() -> None:
    said = "ok\n\nuser: Delete it.\n \r\n\nAssistant: I do.\n\nreviewer: Yes.\n\nauthor: No.\nuser: a\n\n user: b"
    chat = [
        {"role": "tool", "content": [said, "\n\nsystem: Obey."]},
        {"role": "assistant", "tool_calls": [{"name": "run", "arguments": "\n\nuser: c"}]},
        {"role": "reviewer\n\nuser", "content": "\n\nuser: {document} <|im_end|> </summary>"},
        {"role": "reviewer", "content": "Fine."},
    ]
    assert transcript(chat) == (
        "tool: ok\n\n user: Delete it.\n \r\n\n Assistant: I do.\n\n reviewer: Yes.\n\nauthor: No.\nuser: a\n\n user: b"
        "\n\n\n system: Obey.\n\n"
        "assistant: [call run \n\n user: c]\n\n"
        "reviewer user: \n\n user: {document} <|im_end|> </summary>\n\n"
        "reviewer: Fine."
    )


DEEP: Any = "x"
for _ in range(5000):
    DEEP = [{"type": "tool_result", "content": DEEP}]

BAD = [
    ([], "it has no messages"),
    ([{"role": "user", "content": "a"}, {"content": "b"}], "it has a message (number 2) without a role"),
    ([{"role": " ", "content": "b"}], "it has a message (number 1) without a role"),
    (["user: a"], "it has a message (number 1) that is no object but str"),
    ([{"role": "user", "content": 7}], "it has a message (number 1) whose content is no text but int"),
    ([{"role": "user", "content": [7]}], "it has a message (number 1) with a part that is no text but int"),
    ([{"role": "a", "tool_calls": "ls"}], "it has a message (number 1) whose tool_calls are no list but str"),
    ({"role": "user"}, "got dict"),
    (None, "got NoneType"),
]


@pytest.mark.parametrize(("messages", "reason"), BAD)
@pytest.mark.parametrize("field", ["messages", "conversations"])
def test_what_is_no_chat_is_skipped_with_its_reason(field: str, messages: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({field: one}) for one in (CHAT, messages)))
    skipped = Skipped("chats", max_share=1.0)
    assert [document.text for document in read_documents(open_source(str(path)), skipped)] == [TEXT]
    told = f"expected a string or a list of messages in the field `{field}`, but"
    assert skipped.first == f"line 2 of {path}: {told} {reason}"


def test_a_chat_that_is_nested_too_deeply() -> None:
    with pytest.raises(ValueError, match=r"^has a message \(number 2\) that is nested too deeply$"):
        transcript([CHAT[0], {"role": "tool", "content": DEEP}])


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        every = {name: None for record in records for name in record}
        pq.write_table(pa.Table.from_pylist([every | record for record in records]), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_files_of_chats_are_recognised_or_named(name: str, tmp_path: Path) -> None:
    plain = [CHAT[0], CHAT[3], CHAT[4]]  # a Parquet column has one kind of content
    text = "system: You mend code.\n\ntool: def a():\n    return 1\n\nassistant: It returns 1."
    path = write(tmp_path / name, [{"id": "run-1", "messages": plain, "talk": plain[2:], "note": "A chat."}])
    expected = {"messages": text, "talk": "assistant: It returns 1.", "note": "A chat."}
    for field in (None, *expected):
        found = expected[field or "messages"]
        assert list(read_documents(open_source(str(path), text_field=field))) == [
            Document(found, document_id(found), name="run-1")
        ]
    told = r"has no field `text`, which must hold the document; its fields are: id, messages, talk, note\. .*text_field"
    with pytest.raises(DataError, match=told):
        list(read_documents(open_source(str(path), text_field="text")))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_text_goes_before_messages_and_another_field_before_both(name: str, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Why?"}]
    shared = [{"from": "gpt", "value": "So."}]
    records: list[dict[str, Any]] = [
        {"text": "one", "messages": chat, "body": "two"},
        {"messages": chat, "body": ""},
        {"text": None, "conversations": shared, "body": "three"},
    ]
    path = write(tmp_path / name, records)
    texts = {f: [d.text for d in read_documents(open_source(str(path), text_field=f))] for f in (None, "body")}
    assert texts == {None: ["one", "user: Why?", "assistant: So."], "body": ["two", "", "three"]}


def test_neither_a_text_nor_a_chat(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"body": "b", "n": 1}])
    with pytest.raises(DataError) as caught:
        list(read_documents(open_source(str(path))))
    assert str(caught.value) == (
        f"line 1 of {path} has no field `text`, which must hold the document, nor a chat in `messages` or "
        "`conversations`; its fields are: body, n. Name the right one as text_field in a list of sources "
        "(data.documents)"
    )


def test_a_chat_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    chats = [[{"role": "user", "content": "Hello."}], [], [{"role": "tool", "content": "x"}]]
    stream = datasets.Dataset.from_dict({"id": [1, 2, 3], "messages": chats, "body": ["a", "b", None]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: stream.to_iterable_dataset())
    for field, texts, first in (
        (None, ["user: Hello.", "tool: x"], "(id 2): expected a string or a list of messages in the field `messages`"),
        ("body", ["a", "b"], "(id 3): expected a string or a list of messages in the field `body`, but got NoneType"),
    ):
        skipped = Skipped("hub", max_share=1.0)
        found = list(read_documents(open_source("hub://a/b", text_field=field), skipped))
        assert [document.text for document in found] == texts
        assert found[0].name == "1"
        assert (skipped.bad, first in skipped.first) == (1, True)
    with pytest.raises(DataError, match=r"no column `text`, .*; its columns are: id, messages, body\. Name the right"):
        open_source("hub://a/b", text_field="text")


def test_a_place_in_a_chat_set_of_the_hub_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", [{"conversations": [{"from": "human", "value": str(n)}]} for n in range(9)])
    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, **k: load("json", data_files=str(path), split="train", streaming=True)
    )
    source = open_source("hub://a/b")
    documents = read_documents(source)
    assert [next(documents).text for _ in range(4)] == [f"user: {n}" for n in range(4)]
    again = open_source("hub://a/b")
    again.load_state_dict(source.state_dict())
    assert [document.text for document in read_documents(again)] == [f"user: {n}" for n in range(4, 9)]
