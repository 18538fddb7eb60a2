"""Checkpoints on disk: written whole or not at all, read without running code from them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from squish_pl.errors import CheckpointError, first_line
from squish_pl.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs to disk, then moves into place: a killed process leaves the earlier file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            CheckpointError: It cannot be written, such as for want of disk space; the earlier file is untouched.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            with replacing(Path(path), binary=True) as file:
                file.write(buffer.getbuffer())
        except OSError as error:
            size = len(buffer.getbuffer()) / 1e6
            raise CheckpointError(
                f"cannot write the checkpoint {path} ({size:.1f} MB): {error.strerror or error}; free disk space or "
                "set checkpoint.dirpath, then go on with --ckpt_path last"
            ) from None

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: Any = True) -> dict[str, Any]:
        """Reads a checkpoint, tensors and plain values only.

        Raises:
            CheckpointError: There is no such file, or it is not a whole checkpoint.
        """
        try:
            return dict(torch.load(path, map_location=map_location, weights_only=True))
        except FileNotFoundError:
            raise CheckpointError(f"there is no checkpoint {path}") from None
        except Exception as error:
            reason = first_line(error)
            raise CheckpointError(f"{path} is not a checkpoint that can be read: {reason}") from None
