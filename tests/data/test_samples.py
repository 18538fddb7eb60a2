"""The package's own documents: there, whole, in the languages they say, and apart by split."""

from __future__ import annotations

import configparser
import fnmatch
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from squish_pl.data.filters import read_documents
from squish_pl.data.sources import SAMPLES_FOLDER, open_source

KINDS = {  # documents to train on and to validate with, and a word of the language or genre in each
    "chinese": (3, 2, "，"),
    "german": (3, 2, " der "),
    "minutes": (3, 2, "\n\n"),
    "spanish": (3, 2, " que "),
    "transcripts": (4, 2, "assistant: "),
}
SPLITS = ("train", "validation")


def records(kind: str, split: str) -> list[dict[str, Any]]:
    path = SAMPLES_FOLDER / (f"{kind}-{split}.jsonl" if kind else f"{split}.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_two_splits_of_different_documents(kind: str) -> None:
    *counts, sign = KINDS[kind]
    texts = [[d.text for d in read_documents(open_source(f"samples:{kind}", split))] for split in SPLITS]
    assert [len(set(some)) for some in texts] == counts
    assert not set(texts[0]) & set(texts[1])
    for text in (*texts[0], *texts[1]):
        assert sign in text
        assert len(text.encode()) > 600
        assert unicodedata.is_normalized("NFC", text)
        han = sum("CJK UNIFIED" in unicodedata.name(sign, "") for sign in text)
        assert (han > len(text) / 2) == (kind == "chinese")


def test_every_file_is_named_invented_free_and_packaged() -> None:
    files = sorted(path.name for path in SAMPLES_FOLDER.iterdir())
    expected = {f"{kind}-{split}.jsonl" for kind in KINDS for split in SPLITS}
    assert set(files) == expected | {"README.md", "train.jsonl", "validation.jsonl"}
    every = [record for kind in ("", *KINDS) for split in SPLITS for record in records(kind, split)]
    assert len(every) == 40 + sum(sum(counts[:2]) for counts in KINDS.values())
    assert all(record["license"] == "CC0-1.0" and record["invented"] is True for record in every)
    assert max(Counter(record["url"] for record in every).values()) == 1
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "setup.cfg")
    (pattern,) = settings["options.package_data"]["squish_pl.data"].split()
    assert all(fnmatch.fnmatch(f"samples/{name}", pattern) for name in files)


def test_transcripts_are_calls_with_their_results() -> None:
    for split in SPLITS:
        for record in records("transcripts", split):
            roles = [message["role"] for message in record["messages"]]
            assert roles[:2] == ["system", "user"]
            assert roles[-1] == "assistant"
            for before, after in zip(record["messages"], record["messages"][1:], strict=False):
                assert bool(before.get("tool_calls")) == (after["role"] == "tool")
                for call in before.get("tool_calls", []):
                    assert isinstance(json.loads(call["function"]["arguments"]), dict)
