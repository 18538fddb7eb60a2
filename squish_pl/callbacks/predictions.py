"""Summaries of `predict`, written as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback, Trainer

from squish_pl.errors import DataError
from squish_pl.files import written_whole
from squish_pl.module import SquishModule
from squish_pl.types import Finish, Rollouts


class PredictionWriter(Callback):
    """Writes one line for each document and budget: id, url, budget, limit, summary, finish.

    The id is the document's own where its source gives one. Where the policy thinks, a line has its thought too. The
    file is written whole or not at all: an earlier one stays until prediction has come to its end.

    Args:
        path: The file.
    """

    def __init__(self, path: str = "summaries.jsonl") -> None:
        self.path = path
        self.count = 0
        self._open = ExitStack()
        self._file: IO[str] | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Opens a file beside the one to be written.

        Raises:
            DataError: It cannot be written.
        """
        self.count = 0
        if not trainer.is_global_zero:
            return
        path = Path(self.path).expanduser().resolve()  # a link stays one
        if path.exists() and not path.is_file():
            raise DataError(f"cannot write {self.path!r}: it is there and no file; set predictions.path")
        self._file = self._open.enter_context(written_whole(path, "free disk space or set predictions.path"))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: SquishModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes a batch's summaries."""
        if self._file is None:  # the first process writes, and has everyone's
            return
        groups: Sequence[Rollouts] = outputs
        for group in groups:
            prompt = group.prompt
            line = {
                "id": prompt.document.name or prompt.document.id,
                "url": prompt.document.url,
                "budget": str(prompt.budget),
                "limit": prompt.budget.limit(prompt.document.text, pl_module.tokenizer),
                "summary": group.summaries[0],
                "finish": Finish(int(group.finish[0])).name.lower(),
            }
            if group.thoughts is not None:
                line["thought"] = group.thoughts.texts[0]
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.count += 1

    def on_predict_end(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Moves the file into its place.

        Raises:
            DataError: It cannot be written.
        """
        self._open.close()
        self._file = None

    def on_exception(self, trainer: Trainer, pl_module: SquishModule, exception: BaseException) -> None:
        """Throws away what was written; an earlier file stays."""
        # not the exception itself: an OSError from elsewhere is none of this file's
        abandoned = KeyboardInterrupt()
        self._open.__exit__(type(abandoned), abandoned, None)
