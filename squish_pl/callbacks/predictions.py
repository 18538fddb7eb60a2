"""Summaries of `predict`, written as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import Callback, Trainer

from squish_pl.errors import CheckpointError
from squish_pl.module import SquishModule
from squish_pl.types import Finish, Rollouts


class PredictionWriter(Callback):
    """Writes one line for each document and budget: id, url, budget, limit, summary, finish.

    Args:
        path: The file; an earlier one is replaced when prediction starts.
    """

    def __init__(self, path: str = "summaries.jsonl") -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Opens the file.

        Raises:
            CheckpointError: It cannot be written.
        """
        self.count = 0
        try:
            Path(self.path).expanduser().parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(self.path).expanduser().open("w", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path!r}: {error.strerror}; set predictions.path") from None

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
        assert self._file is not None
        groups: Sequence[Rollouts] = outputs
        for group in groups:
            prompt = group.prompt
            line = {
                "id": prompt.document.id,
                "url": prompt.document.url,
                "budget": str(prompt.budget),
                "limit": prompt.budget.limit(prompt.document.text, pl_module.tokenizer),
                "summary": group.summaries[0],
                "finish": Finish(int(group.finish[0])).name.lower(),
            }
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.count += 1
        self._file.flush()

    def on_predict_end(self, trainer: Trainer, pl_module: SquishModule) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
