"""The documents of a benchmark: all that a source has, or its first ones."""

from __future__ import annotations

from itertools import islice

from squish_pl.data.filters import Selection, read_documents
from squish_pl.data.sources import is_hub, open_source
from squish_pl.errors import DataError
from squish_pl.types import Document


def load_documents(source: str, most: int | None = None, selection: Selection = Selection()) -> list[Document]:
    """Reads documents, uncut, in order; blank ones are left out.

    Args:
        source: As for training: "samples" (the validation articles), a file, a folder, a glob or hub://.
        most: How many are read.
        selection: Lengths they must have.

    Raises:
        DataError: They cannot be read, there are none, or a whole dataset of the hub is asked for.
    """
    if is_hub(source) and most is None:
        raise DataError(f"{source} is a whole dataset: say with max_documents how many of it are read")
    found = [(d, selection.objection(d)) for d in _first(source, most, selection)]
    documents = [document for document, objection in found if objection is None]
    if not documents:
        reasons = ", ".join(dict.fromkeys(objection for _, objection in found if objection))
        raise DataError(
            f"{source} gave no document to summarise" + (f": all are {reasons}" if reasons else ": it is empty")
        )
    return documents


def _first(source: str, most: int | None, selection: Selection) -> list[Document]:
    documents = read_documents(open_source(source, "validation"))
    if most is None:
        return list(documents)
    # those that are left out do not count
    return list(islice((d for d in documents if selection.objection(d) is None), most))
