"""From the name of some documents to a stream of their records."""

from __future__ import annotations

import glob
import re
from functools import partial
from pathlib import Path

import datasets

from squish_pl.data.readers import READERS, TEXT, kind, no_text, read_records, text_fields_in, with_text
from squish_pl.errors import DataError

SAMPLES = "samples"
SAMPLES_PREFIX = f"{SAMPLES}:"
SAMPLES_FOLDER = Path(__file__).parent / "samples"
HUB_PREFIX = "hub://"

_KINDS = ", ".join(READERS)
_OFFLINE = (
    "Without a network, name samples or a local file as documents in C4's format (JSON lines with a field `text`)"
)


def open_source(spec: str, split: str = "train", text_field: str | None = None) -> datasets.IterableDataset:
    """Opens documents as a stream of records with the field `text` and, where known, `url` and `timestamp`.

    Args:
        spec: "samples" for the package's own articles, "samples:KIND" for its other documents;
            "hub://<owner>/<name>[/<config>]" for a dataset of the Hugging Face hub, which is streamed and never
            downloaded whole; a file, a folder or a glob pattern.
        split: "train" or "validation". Files have no splits: all of them are read whatever it is.
        text_field: The field with the document; by default `text`, or in records without a text a chat's (see
            `transcripts`).

    Raises:
        DataError: The documents cannot be found. What cannot be read comes as a record that says so, see `readers`.
    """
    if is_hub(spec):
        return _open_hub(spec, split, text_field)
    files = [str(path) for path in find_files(spec, split)]
    arguments = {"files": files, "first": files[0], "text_field": text_field}
    return datasets.IterableDataset.from_generator(read_records, gen_kwargs=arguments)


def is_hub(spec: str) -> bool:
    """Whether the documents lie on the Hugging Face hub."""
    return spec.startswith(HUB_PREFIX)


def has_validation_split(spec: str) -> bool:
    """Whether the source itself says which documents are for validation."""
    return spec == SAMPLES or spec.startswith(SAMPLES_PREFIX) or is_hub(spec)


def parse_hub(spec: str) -> tuple[str, str | None]:
    """Splits "hub://<owner>/<name>[/<config>]" into the dataset's name and its configuration.

    Raises:
        DataError: It is not of that form.
    """
    match = re.fullmatch(r"([^/\s]+/[^/\s]+)(?:/([^/\s]+))?", spec.removeprefix(HUB_PREFIX))
    if match is None:
        raise DataError(f"expected hub://<owner>/<name> or hub://<owner>/<name>/<config>, but got {spec!r}")
    return match[1], match[2]


def find_files(spec: str, split: str = "train") -> list[Path]:
    """The files behind "samples", a file, a folder or a glob pattern, sorted by name.

    Raises:
        DataError: There are none, or they cannot be read together.
    """
    if spec == SAMPLES or spec.startswith(SAMPLES_PREFIX):
        return [_sample_file(spec.removeprefix(SAMPLES).removeprefix(":"), split)]
    path = Path(spec).expanduser()
    if path.is_dir():
        try:
            found = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
        except OSError as error:
            raise DataError(f"cannot read the folder {spec!r}: {error.strerror}; change its permissions") from None
    elif path.exists():
        found = [path]
    elif glob.has_magic(spec):
        found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
    else:
        raise DataError(
            f"there is no file or folder {spec!r}. Expected a path, a glob pattern, hub://<owner>/<name>/<config> "
            f'for a dataset of the Hugging Face hub, or "{SAMPLES}" for the articles that come with the package'
        )
    return _readable(spec, sorted(found))


def _sample_file(kind: str, split: str) -> Path:
    """The package's own articles where no kind is named."""
    file = SAMPLES_FOLDER / (f"{kind}-{split}.jsonl" if kind else f"{split}.jsonl")
    if not file.is_file():
        kinds = sorted(path.name.removesuffix("-train.jsonl") for path in SAMPLES_FOLDER.glob("*-train.jsonl"))
        raise DataError(
            f"the package has no samples of the kind {kind!r}: expected {SAMPLES!r} for its articles, or "
            + ", ".join(SAMPLES_PREFIX + name for name in kinds)
        )
    return file


def _readable(spec: str, found: list[Path]) -> list[Path]:
    """Those of the files that we read, all of them text files or none."""
    files = [path for path in found if kind(path) is not None]
    if not files:
        names = ", ".join(path.name for path in found[:3]) + (", ..." if len(found) > 3 else "")
        raise DataError(f"{spec!r} holds no file that can be read: expected {_KINDS}, but got {names or 'no file'}")
    texts = [path for path in files if kind(path) == ".txt"]
    if texts and len(texts) < len(files):
        other = next(path for path in files if path not in texts)
        raise DataError(
            f"{spec!r} mixes text files ({texts[0].name}), one document each, with files of many documents "
            f"({other.name}). Put them into separate folders, or name one kind with a glob pattern"
        )
    return files


def _open_hub(spec: str, split: str, text_field: str | None) -> datasets.IterableDataset:
    name, config = parse_hub(spec)
    try:
        source = datasets.load_dataset(name, config, split=split, streaming=True)
    except Exception as error:  # whatever goes wrong in there, the user needs to know the same
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"cannot open the split {split!r} of {spec}: {reason.rstrip('.')}. {_OFFLINE}") from None
    fields = None if source.column_names is None else text_fields_in(source.column_names, text_field)
    if fields == []:
        raise DataError(no_text(spec, source.column_names, text_field, "column"))
    return source if fields == [TEXT] else source.map(partial(with_text, text_field=text_field))
