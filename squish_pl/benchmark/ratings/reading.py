"""A file of ratings in any format that is known, told by its content."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from squish_pl.benchmark.ratings.json_fields import json_object
from squish_pl.benchmark.ratings.newsroom import COLUMNS, is_newsroom, read_newsroom
from squish_pl.benchmark.ratings.own_format import EXPECTED, read_own_format
from squish_pl.benchmark.ratings.rated import RatedSummary, Ratings, gathered
from squish_pl.benchmark.ratings.summeval import EXPERTS, read_summeval
from squish_pl.errors import UNREADABLE, DataError, unreadable

_KNOWN = (
    f"JSON lines as {EXPECTED}; SummEval's model_annotations.aligned.paired.jsonl (a field {EXPERTS!r}); or Newsroom's "
    f"newsroom-human-eval.csv (the columns {', '.join(COLUMNS)})"
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")  # how every pickle since Python 2.3 begins


def read_ratings(path: str) -> Ratings:
    """Reads a file, gzipped where its name ends in .gz.

    Raises:
        DataError: It cannot be read, its format is unknown, a line is no rated summary, or a document has two texts;
            the message names the line.
    """
    file = Path(path).expanduser()
    text = _text(file)
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise DataError(f"{path} is empty: expected {_KNOWN}")
    ratings = gathered(file.name, _reader(first, path)(text, path))
    if not ratings.documents:
        raise DataError(f"{path} has a heading, but no rated summary")
    return ratings


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
        if _PICKLE.match(data):
            raise DataError(
                f"{path} is a pickle, as REALSumm's scores_dicts/*.pkl are: reading one can run any program, so it is "
                "never read here; docs/meta.md has a few lines that make JSON lines of a file that you trust"
            )
        return data.decode("utf-8-sig")
    except UNREADABLE as error:
        raise DataError(unreadable(path, error)) from None


def _reader(first: str, path: str) -> Callable[[str, str], Iterator[RatedSummary]]:
    """How a file is read that begins with this line."""
    if first.lstrip().startswith("{"):
        return read_summeval if EXPERTS in (json_object(first) or {}) else read_own_format
    if is_newsroom(first):
        return read_newsroom
    raise DataError(f"{path} has a format that is not known: expected {_KNOWN}; but it begins with {first[:60]!r}")
