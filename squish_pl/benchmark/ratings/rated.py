"""Documents with the summaries that people have rated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from squish_pl.errors import DataError
from squish_pl.lm.tokens import whole_characters


@dataclass(frozen=True)
class RatedSummary:
    """A summary as a file of ratings has it.

    Attributes:
        document: The file's name for the document.
        text: The document.
        summary: Its text.
        scores: Ratings by aspect; an aspect that was not rated is missing.
        system: Who wrote it; None where the file does not say.
        where: In the file, for messages.
    """

    document: str
    text: str
    summary: str
    scores: Mapping[str, float]
    system: str | None
    where: str


@dataclass(frozen=True)
class RatedDocument:
    """A document and its G rated summaries.

    Attributes:
        id: The file's name for it.
        text: The document.
        summaries: G texts.
        scores: For each summary its ratings by aspect; an aspect that was not rated is missing.
        systems: For each summary who wrote it; None where the file does not say.
    """

    id: str
    text: str
    summaries: tuple[str, ...]
    scores: tuple[Mapping[str, float], ...]
    systems: tuple[str | None, ...]


@dataclass(frozen=True)
class Ratings:
    """A file of rated summaries.

    Attributes:
        name: The file's name.
        documents: In the order in which they first come.
    """

    name: str
    documents: tuple[RatedDocument, ...]

    @property
    def aspects(self) -> list[str]:
        """What was rated, in the order in which it first comes."""
        return list(dict.fromkeys(aspect for d in self.documents for scores in d.scores for aspect in scores))

    def first(self, most: int | None) -> Ratings:
        """The same with its first documents alone."""
        return Ratings(self.name, self.documents[:most])

    def rated(self, aspect: str) -> list[list[float]]:
        """For each document the G ratings of an aspect; NaN where there is none."""
        return [[scores.get(aspect, math.nan) for scores in d.scores] for d in self.documents]


def gathered(name: str, summaries: Iterable[RatedSummary]) -> Ratings:
    """A file's summaries by their documents; those of the same document need not follow one another.

    Raises:
        DataError: A document is empty, or has two texts.
    """
    found: dict[str, list[RatedSummary]] = {}
    for one in summaries:
        if not one.text.strip():
            raise DataError(f"{one.where}: the text of the document {one.document!r} is empty")
        known = found.setdefault(one.document, [])
        if known and known[0].text != one.text:
            raise DataError(f"{one.where}: the document {one.document!r} had another text before")
        known.append(one)
    return Ratings(name, tuple(_document(id, own) for id, own in found.items()))


def _document(id: str, own: Sequence[RatedSummary]) -> RatedDocument:
    return RatedDocument(
        id,
        whole_characters(own[0].text),
        tuple(whole_characters(one.summary) for one in own),
        tuple(one.scores for one in own),
        tuple(one.system for one in own),
    )
