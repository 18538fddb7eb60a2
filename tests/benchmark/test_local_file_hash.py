"""Files that decide what a model is tell models apart, and nothing else does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from squish_pl.benchmark.file_hash import base_files_hash, content_hash
from squish_pl.errors import ModelError

DECIDING = [
    *("config.json", "generation_config.json", "adapter_config.json", "model.safetensors"),
    *("model-00001-of-00002.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "qwen.tiktoken", "tekken.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/tools.jinja"),
]
OTHER = ["notes.txt", "README.md", "metrics.json", "trainer_state.json", "pytorch_model.bin", "images/tokenizer.json"]


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        write(tmp_path / "here" / name, name)
    return tmp_path / "here"


@pytest.mark.parametrize("name", DECIDING)
def test_every_file_that_decides_counts(folder: Path, name: str) -> None:
    seen = {base_files_hash(str(folder))}
    for content in ("one", "two"):
        write(folder / name, content)
        seen.add(base_files_hash(str(folder)))
    assert len(seen) == 3


def test_what_lies_beside_them_does_not_count(folder: Path, tmp_path: Path) -> None:
    before = base_files_hash(str(folder))
    for name in OTHER:
        write(folder / name, "whatever")
    shutil.copytree(folder, tmp_path / "there")
    (tmp_path / "there" / "tokenizer_files").mkdir()
    assert base_files_hash(str(folder)) == base_files_hash(str(tmp_path / "there")) == before


def test_of_a_gguf_folder_its_own_file_and_the_tokenizer_count(folder: Path) -> None:
    for name in ("one.gguf", "two.gguf"):
        write(folder / name, "weights")
    base = str(folder)
    before = base_files_hash(base, "one.gguf")
    assert len({before, base_files_hash(base, "two.gguf"), base_files_hash(base)}) == 3
    for name in ("config.json", "model.safetensors", "two.gguf"):
        write(folder / name, "changed")
    assert base_files_hash(base, "one.gguf") == before
    # transformers takes it before the GGUF's own
    write(folder / "tokenizer.json", "changed")
    assert base_files_hash(base, "one.gguf") != before
    with pytest.raises(ModelError, match=r"cannot read .*none\.gguf"):
        base_files_hash(base, "none.gguf")


def test_where_a_base_lies(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "a_packed_model")
    write(tmp_path / "a_packed_model" / "__init__.py", "")
    monkeypatch.syspath_prepend(tmp_path)
    assert base_files_hash("package:a_packed_model") == base_files_hash(str(folder))
    assert base_files_hash("owner/model") is None
    with pytest.raises(ModelError, match="not installed"):
        base_files_hash("package:no_such_model")


def hash_with(path: Path, size: int, place: int | None) -> str:
    """Of zeros, and an x at a place."""
    with path.open("wb") as file:
        file.truncate(size)
        if place is not None:
            file.seek(place)
            file.write(b"x")
    return content_hash([path])


def test_pieces_of_a_large_file_tell(tmp_path: Path) -> None:
    path, size, step = tmp_path / "weights", 40 << 20, 160 << 10
    plain = hash_with(path, size, None)
    # where pieces begin and end
    assert len({plain, *(hash_with(path, size, place) for place in (0, (64 << 10) - 1, size // 2, size - step))}) == 5
    assert hash_with(path, size, 64 << 10) == hash_with(path, size, size - 1) == plain  # between them
    with pytest.raises(ModelError, match=r"cannot read .*nowhere"):
        content_hash([tmp_path / "nowhere"])


def test_a_file_of_up_to_16_mib_is_read_whole(tmp_path: Path) -> None:
    path, size = tmp_path / "weights", 16 << 20
    places = (None, (64 << 10) - 1, 64 << 10, (100 << 10) + 7, size - 1)
    assert len({hash_with(path, size, place) for place in places}) == len(places)
    assert len({hash_with(path, 1000, place) for place in (None, *range(0, 1000, 37))}) == 29
