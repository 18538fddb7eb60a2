"""Whose folder it is: a run never writes over another one, and takes its adapters along where it goes on elsewhere."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from squish_pl.errors import CheckpointError
from squish_pl.files import replace_folder, replacing
from squish_pl.policy.adapter import read_training_file

CHECKPOINT = "last.ckpt"


def set_aside(folder: Path) -> Path | None:
    """Renames the folder of a run, so that another one does not write over it.

    Returns:
        Its new name; None where it holds no run.

    Raises:
        CheckpointError: It cannot be renamed.
    """
    if not any((folder / name).exists() for name in ("best", "last", CHECKPOINT)):
        return None
    number = 1
    while (kept := folder.with_name(f"{folder.name}-earlier-{number}")).exists():
        number += 1
    try:
        folder.rename(kept)
    except OSError as error:
        raise CheckpointError(
            f"{folder} holds an earlier run and cannot be renamed ({error.strerror}): set checkpoint.dirpath"
        ) from None
    return kept


def take_over(folder: Path, checkpoint: Path, rounds: Mapping[str, int | None]) -> Path | None:
    """Makes a folder that of the run which a checkpoint is of: another run there is set aside first.

    Args:
        folder: Where the run goes on.
        checkpoint: What it goes on from, wherever it lies.
        rounds: Adapter folders beside the checkpoint, with the round that each is of; they come along, unless they are
            of another one.

    Returns:
        The new name of the run set aside, if there was one.

    Raises:
        CheckpointError: The folder cannot be renamed or written.
    """
    checkpoint, home = checkpoint.resolve(), folder.resolve()
    if _is_of(checkpoint, home):
        return None
    kept = set_aside(folder)
    if kept is not None and checkpoint.is_relative_to(home) and not checkpoint.exists():  # set aside with the rest
        checkpoint = kept.resolve() / checkpoint.relative_to(home)
    for name, wanted in rounds.items():
        source = checkpoint.parent / name
        if wanted is not None and adapter_round(source) == wanted:
            replace_folder(folder / name, partial(_copy_files, source))
    if checkpoint.is_file():
        try:
            with replacing(folder / CHECKPOINT, binary=True) as target, checkpoint.open("rb") as file:
                shutil.copyfileobj(file, target)
        except OSError as error:
            raise CheckpointError(
                f"cannot write {folder / CHECKPOINT}: {error.strerror or error}; free disk space or set "
                "checkpoint.dirpath"
            ) from None
    return kept


def adapter_round(folder: Path) -> int | None:
    """The round that a saved adapter is of, if it tells."""
    return read_training_file(folder).get("round")


def _is_of(checkpoint: Path, folder: Path) -> bool:
    """Whether a folder's run stands where the checkpoint does, whatever the checkpoint's name."""
    last = folder / CHECKPOINT
    if last.is_file() and checkpoint.is_file():
        return filecmp.cmp(last, checkpoint, shallow=False)
    return not last.exists() and checkpoint.parent == folder


def _copy_files(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, target)
