"""Tells model files apart without reading all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from squish_pl.errors import ModelError
from squish_pl.lm.loading import resolve_base

_PIECES, _PIECE = 256, 1 << 16  # read of each file: how many, bytes of each at most

# what transformers reads of a model's folder; people keep notes and measurements beside it
_TEMPLATES = "additional_chat_templates"
_TOKENIZER = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "emoji.json"),
    *("*.model", "*.tiktoken", "tekken.json", "chat_template*", f"{_TEMPLATES}/*.jinja"),
)
_MODEL = ("config.json", "generation_config.json", "adapter_config.json", "*.safetensors", "*.safetensors.index.json")


def base_files_hash(base: str, gguf_file: str | None = None) -> str | None:
    """A short hash of the files that decide what a base model is, whatever its folder is called.

    Args:
        base: Hub id, folder, or "package:NAME".
        gguf_file: Name of a GGUF file in the folder or package. It stands in for weights and configuration; tokenizer
            files beside it count still, as transformers prefers them to the GGUF's own.

    Returns:
        The hash, see `content_hash`; None for a hub model, whose files do not lie here.

    Raises:
        ModelError: Package or folder are not there, or a file cannot be read.
    """
    folder = Path(resolve_base(base))
    return content_hash(_deciding(folder, gguf_file)) if folder.is_dir() else None


def _deciding(folder: Path, gguf_file: str | None) -> Iterator[Path]:
    if gguf_file:
        yield folder / gguf_file
    templates = folder / _TEMPLATES
    for path in (*folder.iterdir(), *(templates.iterdir() if templates.is_dir() else ())):
        name = path.relative_to(folder).as_posix()
        if any(fnmatchcase(name, pattern) for pattern in _TOKENIZER + (() if gguf_file else _MODEL)) and path.is_file():
            yield path


def content_hash(files: Iterable[Path]) -> str:
    """A short hash of files' names, sizes and contents: of up to 16 MiB all bytes, of a larger file samples.

    The samples are 64 KiB each, from 256 places at equal distances. Training moves all weights, so they tell. What
    they miss is a change of a large file that keeps its size and lies between them altogether, such as one small
    matrix edited in place. Times of change would differ between copies of a folder, and reading everything takes as
    long as loading the model.

    Raises:
        ModelError: A file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(files):
            size = path.stat().st_size
            step = -(-size // _PIECES)
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for i in range(_PIECES):
                    file.seek(i * step)
                    digest.update(file.read(min(step, _PIECE)))
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}") from None
    return digest.hexdigest()[:20]
