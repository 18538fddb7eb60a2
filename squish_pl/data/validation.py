"""Which documents validation sees: the same few of each source, every time."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from squish_pl.data.filters import HeldOut, Selection, read_documents
from squish_pl.data.settings import DocumentSource
from squish_pl.data.skipped import Skipped
from squish_pl.data.sources import open_source
from squish_pl.errors import DataError
from squish_pl.types import Document

log = logging.getLogger(__name__)


def quotas(weights: Sequence[float], size: int) -> list[int]:
    """How many documents of a validation each source gives: seats by weight (Webster's method).

    One after the other goes to the source that is furthest behind, the first one among equals.
    """
    taken = [0] * len(weights)
    for _ in range(size):
        behind = min(range(len(weights)), key=lambda i: (taken[i] + 0.5) / weights[i])
        taken[behind] += 1
    return taken


def validation_documents(
    source: DocumentSource, size: int, selection: Selection, holdout_share: float, skipped: Skipped
) -> list[Document]:
    """The first different documents of a source, uncut, that validation may use.

    Args:
        source: Where they come from.
        size: How many are wanted.
        selection: The lengths they must have.
        holdout_share: Share of the source that is held out from training; 0 where validation has documents of its
            own, all of which may be used.
        skipped: Counts the records that cannot be read.

    Raises:
        DataError: There are none.
    """
    side = HeldOut(share=holdout_share or 1.0)
    found: dict[str, Document] = {}
    nearest: Document | None = None
    for document in read_documents(open_source(source.documents, "validation", source.text_field), skipped):
        if selection.objection(document) is not None:
            continue
        nearest = min(nearest or document, document, key=lambda d: d.id)
        if document.id in side:
            found.setdefault(document.id, document)
        if len(found) == size:
            break
    if nearest is None:
        why = f" ({skipped.summary()})" if skipped.bad else ""
        raise DataError(
            f"{source.about} gave no document to validate with (min_characters={selection.min_characters}, "
            f"max_characters={selection.max_characters}). Name other documents as validation_documents, or change the "
            f"limits on the length{why}"
        )
    if skipped.bad and not holdout_share:  # training comes upon the same records, and tells
        log.warning("%s", skipped.summary())
    # a handful of documents may have none below the share: then the next one above it is held out
    return list(found.values()) or [nearest]
