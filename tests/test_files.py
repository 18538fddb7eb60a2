"""A file or folder is there whole, or as it was before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from squish_pl.errors import CheckpointError, DataError
from squish_pl.files import recover_folder, replace_folder, replacing, usual_mode, written_whole


@pytest.fixture
def umask() -> Iterator[None]:
    """New files are 640 and new folders 750."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class TestReplacing:
    def test_a_new_file_has_the_usual_permissions(self, tmp_path: Path, umask: None) -> None:
        path = tmp_path / "new" / "folder" / "file.txt"
        with replacing(path) as file:
            file.write("é\n")
            assert not path.exists()
        assert path.read_bytes() == "é\n".encode()
        assert mode(path) == 0o640

    def test_an_earlier_file_lends_its_permissions(self, tmp_path: Path, umask: None) -> None:
        path = tmp_path / "file.txt"
        path.write_text("old")
        path.chmod(0o604)
        with replacing(path) as file:
            file.write("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert mode(path) == 0o604

    def test_bytes(self, tmp_path: Path) -> None:
        content = bytes(range(256)) + b"\r\n"
        with replacing(tmp_path / "file", binary=True) as file:
            file.write(content)
        assert (tmp_path / "file").read_bytes() == content

    @pytest.mark.parametrize("error", [RuntimeError("stopped"), OSError(28, "No space left"), KeyboardInterrupt()])
    def test_an_error_inside_leaves_the_earlier_file(self, tmp_path: Path, error: BaseException) -> None:
        path = tmp_path / "file"
        path.write_text("old")
        with pytest.raises(type(error)):
            self.write_half(path, error)
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    def test_an_error_inside_leaves_nothing_where_nothing_was(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError):
            self.write_half(tmp_path / "file", RuntimeError())
        assert list(tmp_path.iterdir()) == []

    @staticmethod
    def write_half(path: Path, error: BaseException) -> None:
        with replacing(path) as file:
            file.write("half")
            raise error


class TestWrittenWhole:
    def test_a_failure_leaves_the_earlier_file(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "file.txt"
        with written_whole(path) as file:
            file.write("first")
        assert not path.stat().st_mode & 0o111
        with pytest.raises(RuntimeError):
            self.write_half(path, RuntimeError())
        assert path.read_text() == "first"
        with pytest.raises(DataError, match="No space left on device; free disk space or choose another file"):
            self.write_half(path, OSError(28, "No space left on device"))
        assert path.read_text() == "first"
        assert [p.name for p in path.parent.iterdir()] == ["file.txt"]

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("")
        path = tmp_path / "a" / "b.txt"
        with pytest.raises(DataError, match=r"cannot write .*; ask elsewhere"), written_whole(path, "ask elsewhere"):
            pass

    @staticmethod
    def write_half(path: Path, error: Exception) -> None:
        with written_whole(path) as file:
            file.write("half")
            raise error


def writer(text: str) -> Callable[[Path], None]:
    def write(target: Path) -> None:
        (target / "weights").write_text(text)

    return write


def failing_second_move(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The earlier folder moves out of the way; the new one does not move in."""
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.startswith(".best.") and self.name != ".best.retired":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)


class TestReplaceFolder:
    def test_a_folder_is_replaced_as_a_whole(self, tmp_path: Path, umask: None) -> None:
        folder = tmp_path / "runs" / "best"

        def first(target: Path) -> None:
            writer("old")(target)
            (target / "left over").write_text("of the earlier one")

        replace_folder(folder, first)
        replace_folder(folder, writer("new"))
        assert {p.name: p.read_text() for p in folder.iterdir()} == {"weights": "new"}
        assert [p.name for p in folder.parent.iterdir()] == ["best"]
        assert (mode(folder), mode(folder / "weights")) == (0o750, 0o640)

    def test_a_failed_write_leaves_the_earlier_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "best"
        replace_folder(folder, writer("old"))

        def half(target: Path) -> None:
            writer("half")(target)
            raise OSError(28, "No space left on device")

        with pytest.raises(CheckpointError, match="No space left on device"):
            replace_folder(folder, half)
        assert (folder / "weights").read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["best"]
        replace_folder(folder, writer("new"))
        assert (folder / "weights").read_text() == "new"
        folder.rename(tmp_path / ".best.retired")  # killed between the two moves
        recover_folder(folder)
        assert (folder / "weights").read_text() == "new"

    def test_a_failure_between_the_moves_brings_the_earlier_folder_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "best"
        replace_folder(folder, writer("old"))
        failing_second_move(monkeypatch, OSError(5, "Input/output error"))
        with pytest.raises(CheckpointError, match="Input/output error"):
            replace_folder(folder, writer("new"))
        assert (folder / "weights").read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["best"]

    def test_ctrl_c_between_the_moves(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "best"
        replace_folder(folder, writer("old"))
        with monkeypatch.context() as patch:
            failing_second_move(patch, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                replace_folder(folder, writer("new"))
        assert (folder / "weights").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["best"]

    def test_a_process_killed_between_the_moves(self, tmp_path: Path) -> None:
        folder = tmp_path / "best"
        replace_folder(folder, writer("old"))
        folder.rename(tmp_path / ".best.retired")  # where the first move puts it
        recover_folder(folder)
        assert (folder / "weights").read_text() == "old"
        replace_folder(folder, writer("newer"))
        assert (folder / "weights").read_text() == "newer"

    def test_recovery_touches_nothing_that_is_there(self, tmp_path: Path) -> None:
        folder = tmp_path / "best"
        recover_folder(folder)
        assert not folder.exists()
        replace_folder(folder, writer("new"))
        replace_folder(tmp_path / ".best.retired", writer("old"))
        recover_folder(folder)
        assert (folder / "weights").read_text() == "new"


def test_the_usual_mode(tmp_path: Path, umask: None) -> None:
    (tmp_path / "file").touch(0o600)
    (tmp_path / "folder").mkdir(0o700)
    for name, expected in (("file", 0o640), ("folder", 0o750)):
        usual_mode(tmp_path / name)
        assert mode(tmp_path / name) == expected
    (tmp_path / "next").touch()
    assert mode(tmp_path / "next") == 0o640  # the system's mask is as it was
