"""Summaries of a file in the place of the documents' own highlights."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path

import pytest
from tiny import make_byte_tokenizer

from squish_pl.data import DocumentDataModule
from squish_pl.data.filters import document_id, make_document
from squish_pl.data.highlights import read_highlights, with_highlights
from squish_pl.errors import DataError
from squish_pl.types import Document


def write(path: Path, *records: object) -> str:
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


def test_lines_find_their_documents_by_id_url_or_text(tmp_path: Path) -> None:
    lines = [
        {"id": 7, "summary": "by name"},
        {"id": document_id("hashed"), "summary": "by hash"},
        {"url": "https://a.test/1", "summary": "by url"},
        {"document": "a whole text", "summary": "by text"},
        {"id": "none", "summary": None},
    ]
    known = read_highlights(write(tmp_path / "a.jsonl", *lines))
    records = [
        {"text": "x", "id": "7"},
        {"text": "hashed"},
        {"text": "y", "url": "https://a.test/1"},
        {"text": "a whole text", "id": "of its own", "highlights": "their own"},
        {"text": "z", "id": "none"},
        {"text": "unknown", "highlights": "their own"},
    ]
    found = [with_highlights(make_document(record), known).highlights for record in records]
    assert found == ["by name", "by hash", "by url", "by text", "", ""]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "holds no summary"),
        ([{"summary": "s"}], "line 1: expected one of id, url, document"),
        ([{"id": 1, "summary": "s"}, {"id": "1", "summary": "t"}], "line 2: line 1 is for the same document (id '1')"),
        ([{"id": 1}], 'line 1: expected {"summary"'),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, lines: list[object], words: str) -> None:
    path = write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        read_highlights(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_documents_carry_them_however_they_are_cut(tmp_path: Path, workers: int) -> None:
    texts = [f"Document {i}, which goes on." for i in range(4)]
    documents = write(tmp_path / "docs.jsonl", *({"text": text, "highlights": "their own"} for text in texts))
    given = write(tmp_path / "sums.jsonl", *({"document": text, "summary": text[:10]} for text in texts[1:]))
    settings = {"documents": documents, "validation_documents": "samples", "max_tokens": 12, "batch_size": 4}
    data = DocumentDataModule(**settings, highlights=given, num_workers=workers, tokenizer=make_byte_tokenizer())
    (batch,) = islice(data.train_dataloader(), 1)
    found = {document.text: document.highlights for document in batch.documents}
    assert found == {text[:12].rstrip(): text[:10] if text in texts[1:] else "" for text in texts}
    own = DocumentDataModule(**settings, tokenizer=make_byte_tokenizer())
    (batch,) = islice(own.train_dataloader(), 1)
    assert {document.highlights for document in batch.documents} == {"their own"}


def test_a_file_that_is_not_there_shows_before_the_model_is_loaded(tmp_path: Path) -> None:
    data = DocumentDataModule(highlights=str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match=r"none\.jsonl.*No such file"):
        data.setup("fit")
    data.setup("validate")  # which does without


def test_a_document_keeps_everything_else() -> None:
    document = Document("t", "i", "u", "n", "h")
    assert with_highlights(document, {("url", "u"): "new"}) == Document("t", "i", "u", "n", "new")
