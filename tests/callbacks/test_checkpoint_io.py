"""Checkpoints that cannot be written or read."""

import errno
import os

import pytest
import torch

from squish_pl.callbacks.checkpoint_io import AtomicCheckpointIO
from squish_pl.errors import CheckpointError


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.tensor([1.5, 2.5]), "round": 3}, path)
    loaded = AtomicCheckpointIO().load_checkpoint(path)
    assert loaded["x"].tolist() == [1.5, 2.5]
    assert loaded["round"] == 3
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_one(at, tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"round": 1}, path)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, at, full)
    words = r"cannot write the checkpoint .*last\.ckpt \(\d\.\d MB\): No space left on device; free disk space or set"
    with pytest.raises(CheckpointError, match=words):
        AtomicCheckpointIO().save_checkpoint({"round": 2, "x": torch.zeros(100_000)}, path)
    monkeypatch.undo()
    assert AtomicCheckpointIO().load_checkpoint(path) == {"round": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_is_no_checkpoint_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("a text")
    with pytest.raises(CheckpointError, match="is not a checkpoint that can be read"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "text.ckpt")


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
