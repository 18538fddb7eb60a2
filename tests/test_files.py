"""A file is there whole, or as it was before."""

from pathlib import Path

import pytest

from squish_pl.errors import DataError
from squish_pl.files import written_whole


def write_half(path: Path, error: Exception) -> None:
    with written_whole(path) as file:
        file.write("half")
        raise error


def test_a_failure_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with written_whole(path) as file:
        file.write("first")
    assert not path.stat().st_mode & 0o111
    with pytest.raises(RuntimeError):
        write_half(path, RuntimeError())
    assert path.read_text() == "first"
    with pytest.raises(DataError, match="No space left"):
        write_half(path, OSError(28, "No space left on device"))
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(DataError, match="cannot write"), written_whole(tmp_path / "a" / "b.txt"):
        pass
