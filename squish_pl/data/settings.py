"""One source among several, and the one check of all data settings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from squish_pl.budget import Budget
from squish_pl.data.filters import Selection
from squish_pl.data.sources import HUB_PREFIX, find_files, is_hub, parse_hub
from squish_pl.errors import DataError, repeated


@dataclass(frozen=True)
class DocumentSource:
    """Documents of one kind, among others.

    Attributes:
        documents: "samples", "samples:KIND", a file, a folder, a glob pattern or hub://<owner>/<name>/<config>.
        weight: How often it is drawn, in proportion to the others' weights.
        name: What the dashboard calls it; by default the last part of `documents` that has a letter or digit.
        text_field: The field with the document: a text, or a list of messages. By default `text`, or `messages` in
            records without a text.
        min_characters: Length of its shortest document; by default that of all sources (`data.min_characters`).
        max_characters: Length of its longest, likewise.
        budgets: Drawn from in training, for its documents; by default those of the run (`model.rollout.budgets`).
    """

    documents: str
    weight: float = 1.0
    name: str = ""
    text_field: Optional[str] = None
    min_characters: Optional[int] = None
    max_characters: Optional[int] = None
    budgets: Optional[list[str]] = None

    @property
    def title(self) -> str:
        """Its name."""
        if self.name:
            return self.name
        parts = self.documents.removeprefix(HUB_PREFIX).replace(":", "/").split("/")
        slugs = (re.sub(r"\W+", "_", part.split(".")[0]).strip("_") for part in reversed(parts))
        return next(filter(None, slugs), "documents")

    @property
    def about(self) -> str:
        """For messages: where its documents are, with its name if it was given one."""
        return f"{self.name} ({self.documents})" if self.name else self.documents

    def told(self) -> str:
        """The same with its weight and budgets."""
        return f"{self.about} x {self.weight:g}" + (f" ({', '.join(self.budgets)})" if self.budgets else "")

    def selection(self, common: Selection) -> Selection:
        """The lengths its documents must have, where all sources' are known."""
        least = common.min_characters if self.min_characters is None else self.min_characters
        most = common.max_characters if self.max_characters is None else self.max_characters
        return Selection(least, most)

    def order(self) -> dict[str, Any]:
        """What decides which of its documents come when, as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "budgets"} | {"name": self.title}

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not re.fullmatch(r"[\w.-]+", self.title):
            found.append(f"name: expected letters, digits, points, - and _, but got {self.name!r}")
        if not 0 < self.weight < math.inf:
            found.append(f"weight: expected a number above 0, but got {self.weight}")
        if self.text_field is not None and not self.text_field:
            found.append("text_field: expected the name of a field, but got nothing")
        if self.budgets is not None:
            found += [] if self.budgets else ["budgets: expected at least one, or leave it out"]
            found += [f"budgets: {problem}" for problem in Budget.problems([str(one) for one in self.budgets])]
        return found


Documents = str | Sequence[DocumentSource | Mapping[str, Any] | str]

_TEXT, _NUMBER, _LENGTH = (str, "a text"), ((int, float), "a number"), (int, "a whole number")
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "documents": _TEXT,
    "weight": _NUMBER,
    "name": _TEXT,
    "text_field": _TEXT,
    "min_characters": _LENGTH,
    "max_characters": _LENGTH,
    "budgets": (list, "a list of budgets"),
}


def _entry_problems(given: Any) -> list[str]:
    """Why an entry of a list of sources is none, a sentence each; its values are looked at elsewhere."""
    if isinstance(given, (DocumentSource, str)):
        return []
    if not isinstance(given, Mapping):
        return [f"expected documents, alone or with {', '.join(list(_KINDS)[1:])}, but got {type(given).__name__}"]
    unknown = ", ".join(str(name) for name in given if name not in _KINDS)
    found = [f"expected some of {', '.join(_KINDS)}, but got {unknown}"] if unknown else []
    found += ["documents: expected documents to read, but got nothing"] if given.get("documents") is None else []
    for name, (kind, expected) in _KINDS.items():
        value = given.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            found.append(f"{name}: expected {expected}, but got {value!r}")
    return found


def _entry_name(number: int, given: Any) -> str:
    """What an entry of a list is called in messages, though it may be none."""
    named = given.get("name") or given.get("documents") if isinstance(given, Mapping) else None
    return named if isinstance(named, str) else f"source {number}"


def sources_of(documents: Documents) -> list[DocumentSource]:
    """The sources; of a text, the one that it is the name of."""
    return [_source(one) for one in ([documents] if isinstance(documents, str) else documents)]


def _source(given: DocumentSource | Mapping[str, Any] | str) -> DocumentSource:
    if isinstance(given, DocumentSource):
        return given
    if isinstance(given, str):
        return DocumentSource(given)
    return DocumentSource(**{name: value for name, value in given.items() if value is not None})


def order_of(documents: Documents | None) -> Any:
    """The setting as plain values, without what decides nothing about the order of documents."""
    if documents is None or isinstance(documents, str):
        return documents
    return [source.order() for source in sources_of(documents)]


def data_problems(
    documents: Documents = "samples",
    validation_documents: Documents | None = None,
    batch_size: int = 8,
    min_characters: int = 0,
    max_characters: int | None = None,
    max_tokens: int | None = None,
    shuffle_window: int = 256,
    validation_size: int = 8,
    validation_batch_size: int = 8,
    holdout_share: float = 0.05,
    num_workers: int = 0,
    max_bad_share: float = 0.01,
) -> list[str]:
    """All problems of the settings of a `DocumentDataModule`, one sentence each. Opens no file and no connection."""
    common = Selection(min_characters, max_characters)
    problems = _documents_problems("documents", documents, common)
    if validation_documents is not None:
        problems += _documents_problems("validation_documents", validation_documents, common)
    numbers: list[tuple[str, int | None, int]] = [
        ("batch_size", batch_size, 1),
        ("min_characters", min_characters, 0),
        ("max_characters", max_characters, 1),
        ("max_tokens", max_tokens, 1),
        ("shuffle_window", shuffle_window, 0),
        ("validation_size", validation_size, 1),
        ("validation_batch_size", validation_batch_size, 1),
        ("num_workers", num_workers, 0),
    ]
    problems += [
        f"{name}: expected at least {least}, but got {value}"
        for name, value, least in numbers
        if value is not None and value < least
    ]
    if max_characters is not None and min_characters > max_characters:
        problems.append(f"min_characters: expected at most max_characters={max_characters}, but got {min_characters}")
    if not 0 < holdout_share < 1:
        problems.append(f"holdout_share: expected a number between 0 and 1, both excluded, but got {holdout_share}")
    if not 0 <= max_bad_share <= 1:
        problems.append(f"max_bad_share: expected a number from 0 to 1, but got {max_bad_share}")
    return problems


def _documents_problems(setting: str, documents: Documents, common: Selection) -> list[str]:
    """What is wrong with one source, or a list of them, named as the setting that they are."""
    if isinstance(documents, str):
        return [f"{setting}: {problem}" for problem in _spec_problems(documents)]
    found = [] if documents else [f"{setting}: expected at least one source, but got an empty list"]
    sources = []
    for number, given in enumerate(documents, 1):
        wrong = _entry_problems(given)
        found += [f"{setting} ({_entry_name(number, given)}): {problem}" for problem in wrong]
        sources += [] if wrong else [_source(given)]
    for name, times in repeated(source.title for source in sources).items():
        found.append(f"{setting}: {times} sources are called {name!r}: give each a name of its own")
    for source in sources:
        own = source.problems() + [f"documents: {problem}" for problem in _spec_problems(source.documents)]
        own += _length_problems(source, common)
        found += [f"{setting} ({source.title}): {problem}" for problem in own]
    return found


def _spec_problems(spec: str) -> list[str]:
    if not spec.strip():
        return ["expected documents to read, but got nothing"]
    try:
        parse_hub(spec) if is_hub(spec) else find_files(spec)
    except DataError as error:
        return [str(error)]
    return []


def _length_problems(source: DocumentSource, common: Selection) -> list[str]:
    """Of its own limits; those it has from all sources are looked at once for all."""
    own = (("min_characters", source.min_characters, 0), ("max_characters", source.max_characters, 1))
    found = [f"{name}: expected at least {least}, but got {n}" for name, n, least in own if n is not None and n < least]
    limits = source.selection(common)
    least, most = limits.min_characters, limits.max_characters
    if limits != common and most is not None and least > most:
        found.append(f"min_characters: expected at most max_characters={most}, but got {least}")
    return found
