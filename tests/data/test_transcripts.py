"""Chats become one text, from files and from the hub."""

from __future__ import annotations

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


def test_a_block_for_each_message() -> None:
    assert transcript(CHAT) == TEXT


def test_calls_and_results_as_parts() -> None:
    messages = [
        {"role": "assistant", "content": ["Look.", {"type": "tool_use", "name": "run", "input": {"cmd": "ls ü"}}]},
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "a.py"}]}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "b.py"}, {"type": "tool_result"}]},
        {"role": "assistant", "tool_calls": [{"name": "stop"}, {"function": {}}, None]},
        {"role": "assistant", "content": ""},
    ]
    assert transcript(messages) == (
        'assistant: Look.\n[call run {"cmd": "ls ü"}]\n\nuser: a.py\n\nuser: b.py\n\n'
        "assistant: [call stop]\n[call tool]\n[call tool]\n\nassistant: "
    )


BAD = [
    ([], "it has no messages"),
    ([{"role": "user", "content": "a"}, {"content": "b"}], "it has a message without a role (number 2)"),
    (["user: a"], "it has a message without a role (number 1)"),
    ([{"role": "user", "content": 7}], "it has a message (number 1) whose content is no text but int"),
    ([{"role": "user", "content": [7]}], "it has a message (number 1) with a part that is no text but int"),
    ({"role": "user"}, "got dict"),
    (None, "got NoneType"),
]


@pytest.mark.parametrize(("messages", "reason"), BAD)
def test_what_is_no_chat_is_skipped_with_its_reason(messages: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"messages": one}) for one in (CHAT, messages)))
    skipped = Skipped("chats", max_share=1.0)
    assert [document.text for document in read_documents(open_source(str(path)), skipped)] == [TEXT]
    told = "expected a string or a list of messages in the field `messages`, but"
    assert skipped.first == f"line 2 of {path}: {told} {reason}"


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
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
    with pytest.raises(
        DataError, match=r"has no field `text`, .* its fields are: id, messages, talk, note\. .*text_field"
    ):
        list(read_documents(open_source(str(path), text_field="text")))


def test_a_text_goes_before_messages_and_another_field_before_both(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", [{"text": "one", "messages": CHAT, "body": "two"}, {"messages": CHAT, "body": ""}]
    )
    texts = {f: [d.text for d in read_documents(open_source(str(path), text_field=f))] for f in (None, "body")}
    assert texts == {None: ["one", TEXT], "body": ["two", ""]}


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
    with pytest.raises(DataError, match=r"no column `text`; its columns are: id, messages, body\. Name the one"):
        open_source("hub://a/b", text_field="text")


def test_a_place_in_a_chat_set_of_the_hub_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": str(n)}]} for n in range(9)])
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
