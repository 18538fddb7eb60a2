"""A file of summaries that stand for the documents' own highlights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from squish_pl.data.summaries import document_names, numbered_summaries, read_text
from squish_pl.errors import DataError
from squish_pl.types import Document

Highlights = Mapping[tuple[str, str], str]  #: (field, what the document is called by it) -> summary


def read_highlights(path: str) -> Highlights:
    """The summaries of a JSON lines file; each line tells its document by `id`, `url` or `document`, its whole text.

    Raises:
        DataError: The file cannot be read or is empty, or a line makes no sense or is for the document of another one.
    """
    records = numbered_summaries(path, read_text(path))
    if not records:
        raise DataError(f'{path} holds no summary: expected {{"id": ..., "summary": "text"}} on each of its lines')
    found: dict[tuple[str, str], str] = {}
    lines: dict[tuple[str, str], int] = {}
    for number, record in records:
        name = next(iter(document_names(record).items()), None)
        if name is None:
            raise DataError(f"{path} line {number}: expected one of id, url, document, to tell the summary's document")
        if name in lines:
            raise DataError(
                f"{path} line {number}: line {lines[name]} is for the same document ({name[0]} {name[1][:60]!r}): "
                "leave one of them out"
            )
        lines[name] = number
        found[name] = record["summary"] or ""
    return found


def with_highlights(document: Document, highlights: Highlights) -> Document:
    """The document with the summary that there is for it; with none where there is none."""
    names = (("id", document.name), ("id", document.id), ("url", document.url), ("document", document.id))
    given = next((highlights[name] for name in names if name in highlights), "")
    return dataclasses.replace(document, highlights=given)


def cut_with_highlights(document: Document, cut: Callable[[Document], Document], highlights: Highlights) -> Document:
    """The document cut, with the summary that there is for the whole of it."""
    return with_highlights(cut(document), highlights)
