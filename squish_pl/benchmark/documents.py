"""The documents of a benchmark: all that a source has, or its first ones."""

from __future__ import annotations

from squish_pl.data.filters import Selection, read_documents
from squish_pl.data.sources import is_hub, open_source
from squish_pl.errors import DataError
from squish_pl.types import Document


def load_documents(source: str, most: int | None = None, selection: Selection = Selection()) -> list[Document]:
    """Reads documents, uncut, in order; blank ones are left out.

    Args:
        source: As for training: "samples" (the validation articles), a file, a folder, a glob or hub://.
        most: How many are wanted.
        selection: Lengths they must have.

    Raises:
        DataError: They cannot be read, there are none, or a whole dataset of the hub is asked for.
    """
    if is_hub(source) and most is None:
        raise DataError(f"{source} is a whole dataset: say with max_documents how many of it are read")
    documents: list[Document] = []
    objections: dict[str, None] = {}  # in the order they came
    for document in read_documents(open_source(source, "validation")):
        objection = selection.objection(document)
        if objection is not None:
            objections[objection] = None
            continue
        documents.append(document)
        if len(documents) == most:
            break
    if not documents:
        why = f"all are {', '.join(objections)}" if objections else "it is empty"
        raise DataError(f"{source} gave no document to summarise: {why}")
    return documents
