"""The LightningDataModule: documents for training, validation and prediction."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, DistributedSampler
from transformers import PreTrainedTokenizerBase

from squish_pl.data.filters import HeldOut, Selection, cut_document, read_documents
from squish_pl.data.highlights import Highlights, read_highlights, with_highlights
from squish_pl.data.settings import data_problems
from squish_pl.data.skipped import Skipped
from squish_pl.data.sources import has_validation_split, is_hub, open_source
from squish_pl.data.stream import DocumentStream, Progress, StreamLoader
from squish_pl.errors import DataError, report_problems
from squish_pl.parallel import processes
from squish_pl.types import Document, DocumentBatch

log = logging.getLogger(__name__)


class DocumentDataModule(LightningDataModule):
    """Documents to summarise, in batches.

    Training goes over the documents for ever and, resumed from a checkpoint, goes on exactly where it stopped.
    Validation sees the same few documents every time, and none of them is trained on. Prediction sees all
    `documents` once, in their order, whatever their length.

    Args:
        documents: "samples" for the package's own articles; hub://<owner>/<name>/<config> for a dataset of the
            Hugging Face hub, which is streamed; or a file (.jsonl, .json, also with .gz, .parquet, .txt), a folder
            or a glob pattern. JSON lines and Parquet need a field `text`, as in C4; a text file is one document.
        validation_documents: The same for validation. By default the validation split of `documents` where it has
            one (samples, hub), else a part of `documents` that is held out from training.
        highlights: JSON lines with summaries of `documents`, for a warm start (model.warm_start.source): a field
            `summary`, and `id`, `url` or `document` (the text) to tell whose. By default those that the records
            themselves have in a field `highlights`.
        batch_size: Documents of a training step, over all devices.
        min_characters: Length of the shortest document to train on and validate with, in characters.
        max_characters: Length of the longest, in characters.
        max_tokens: Longest document in tokens; longer ones are cut, and the score uses the cut text.
        shuffle_window: Documents that are shuffled together; 0 keeps the order of the source.
        validation_size: Documents of a validation.
        validation_batch_size: Documents of a validation or prediction step.
        holdout_share: Share of `documents` held out from training where validation has no documents of its own.
        seed: Seed of the order of the documents.
        num_workers: Processes that read ahead; 0 reads between the steps.
        max_bad_share: Share of the records that may be unreadable (no JSON, no `text`, a broken file). Such records
            are skipped and counted; more of them end the run.
        tokenizer: Counts the tokens for `max_tokens`. Under a Trainer it is the module's own, `module.tokenizer`.

    Raises:
        ConfigError: Settings that make no sense; all problems are named together.
    """

    def __init__(
        self,
        documents: str = "samples",
        validation_documents: str | None = None,
        batch_size: int = 8,
        min_characters: int = 0,
        max_characters: int | None = None,
        max_tokens: int | None = None,
        shuffle_window: int = 256,
        validation_size: int = 8,
        validation_batch_size: int = 8,
        holdout_share: float = 0.05,
        seed: int = 0,
        num_workers: int = 0,
        max_bad_share: float = 0.01,
        highlights: str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        problems = data_problems(
            documents=documents,
            validation_documents=validation_documents,
            batch_size=batch_size,
            min_characters=min_characters,
            max_characters=max_characters,
            max_tokens=max_tokens,
            shuffle_window=shuffle_window,
            validation_size=validation_size,
            validation_batch_size=validation_batch_size,
            holdout_share=holdout_share,
            num_workers=num_workers,
            max_bad_share=max_bad_share,
        )
        report_problems(f"data.{problem}" for problem in problems)
        self.documents = documents
        self.validation_documents = validation_documents
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.shuffle_window = shuffle_window
        self.validation_size = validation_size
        self.validation_batch_size = validation_batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.max_bad_share = max_bad_share
        self.highlights = highlights
        self.tokenizer = tokenizer
        self.selection = Selection(min_characters, max_characters)
        splits_itself = validation_documents is not None or has_validation_split(documents)
        self.holdout_share = 0.0 if splits_itself else holdout_share
        self._validation: list[Document] | None = None
        self._highlights: Highlights | None = None
        self._progress = Progress()
        self._resumed_settings: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Reads what is not streamed, so that a mistake in the data shows before the model is loaded."""
        processes.begin()  # the first that happens once they are connected
        if stage == "fit":
            self._given_highlights()
        if stage in ("fit", "validate") and not (self.trainer and self.trainer.limit_val_batches == 0):
            self._validation_set()

    def teardown(self, stage: str) -> None:
        """Ends what `setup` began."""
        processes.finish()

    def train_dataloader(self) -> StreamLoader:
        """An endless loader of training batches, which begins after the last batch that was trained on.

        Every process reads all of them, and trains on its share: their place is one for all, and a run can go on with
        another number of processes.

        Raises:
            DataError: The restored position was written under other settings, or documents or highlights
                cannot be read.
        """
        self._check_resumed()
        cut, highlights = self._cutter(), self._given_highlights()
        ids = frozenset(document.id for document in self._validation_set())
        stream = DocumentStream(
            open_source(self.documents),
            name=self.documents,
            batch_size=self.batch_size,
            selection=self.selection,
            held_out=HeldOut(ids, self.holdout_share),
            cut=cut if highlights is None else partial(_cut_with_highlights, cut=cut, highlights=highlights),
            shuffle_window=self.shuffle_window,
            seed=self.seed,
            progress=self._progress,
            max_bad_share=self.max_bad_share,
        )
        return StreamLoader(stream, self.num_workers)

    def val_dataloader(self) -> DataLoader[Document]:
        """A loader of the validation documents, the same ones every time."""
        return self._once(self._validation_set())

    def predict_dataloader(self) -> DataLoader[Document]:
        """A loader of all documents, in order, each once; they are cut but not selected.

        Raises:
            DataError: The documents are a whole dataset of the hub, or (too many of) their records cannot be read.
        """
        if is_hub(self.documents):
            raise DataError(
                f"prediction summarises every document, and {self.documents} is a whole dataset: name a file or folder "
                "with --data.documents"
            )
        skipped = self._skipped(self.documents)
        documents = list(read_documents(open_source(self.documents), skipped))
        if skipped.bad and not documents:
            raise DataError(f"nothing of {self.documents} can be read: {skipped.first}")
        if skipped.bad:
            log.warning("%s", skipped.summary())
        return self._once(documents)

    def transfer_batch_to_device(
        self, batch: DocumentBatch, device: torch.device, dataloader_idx: int
    ) -> DocumentBatch:
        """Leaves the batch as it is: texts lie on no device."""
        return batch

    def on_after_batch_transfer(self, batch: DocumentBatch, dataloader_idx: int) -> DocumentBatch:
        """Moves the position on. Called just before a batch's step, so not for batches that were only read ahead."""
        if batch.position:  # only training batches have one
            before = self._skipped_so_far()
            self._progress.advance(batch)
            self._tell(before, self._skipped_so_far(), batch)
        return batch

    @property
    def figures(self) -> dict[str, float]:
        """For the dashboard: the records that could not be read so far."""
        return {"data/skipped": float(self._skipped_so_far())}

    def state_dict(self) -> dict[str, Any]:
        """The place in the training documents, the same on all processes."""
        position = dict(self._progress.shards)
        return {"batches": self._progress.batches, "position": position, "settings": self._order_settings()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up a place. Whether the settings fit it is checked when training asks for its loader."""
        self._progress.batches = state_dict["batches"]
        self._progress.shards = dict(state_dict["position"])
        self._resumed_settings = dict(state_dict["settings"])

    def _skipped_so_far(self) -> int:
        return self._progress.skipped([str(worker) for worker in range(max(1, self.num_workers))])

    def _tell(self, before: int, after: int, batch: DocumentBatch) -> None:
        """A line for the first skipped record, and one whenever their number has another digit."""
        if len(str(after)) > len(str(before)) or after > before == 0:
            first = next(position["first_skipped"] for position in batch.position.values())
            log.warning("%s: %d unreadable records skipped so far, such as %s", self.documents, after, first)

    def _skipped(self, name: str) -> Skipped:
        return Skipped(name, self.max_bad_share)

    def _validation_set(self) -> list[Document]:
        """The first `validation_size` different documents, uncut, that validation may use."""
        if self._validation is None:
            # A held-out share is empty where validation has documents of its own: then all of them may be used.
            side = HeldOut(share=self.holdout_share or 1.0)
            found: dict[str, Document] = {}
            nearest: Document | None = None
            name = self.validation_documents or self.documents
            skipped = self._skipped(name)
            for document in read_documents(open_source(name, "validation"), skipped):
                if self.selection.objection(document) is not None:
                    continue
                nearest = min(nearest or document, document, key=lambda d: d.id)
                if document.id in side:
                    found.setdefault(document.id, document)
                if len(found) == self.validation_size:
                    break
            if nearest is None:
                raise DataError(self._no_validation() + (f" ({skipped.summary()})" if skipped.bad else ""))
            if skipped.bad and not self.holdout_share:  # training comes upon the same records, and tells
                log.warning("%s", skipped.summary())
            # a handful of documents may have none below the share: then the next one above it is held out
            self._validation = list(found.values()) or [nearest]
        return self._validation

    def _no_validation(self) -> str:
        lengths = f"min_characters={self.selection.min_characters}, max_characters={self.selection.max_characters}"
        return (
            f"{self.validation_documents or self.documents} gave no document to validate with ({lengths}). "
            "Name other documents as validation_documents, or change the limits on the length"
        )

    def _once(self, documents: list[Document]) -> DataLoader[Document]:
        cut = self._cutter()
        ready: Any = [cut(document) for document in documents]  # a list is a map-style dataset
        # all of them to every process, which takes its share of each batch; another sampler Lightning would replace
        sampler: Any = DistributedSampler(ready, num_replicas=1, rank=0, shuffle=False)
        return DataLoader(ready, batch_size=self.validation_batch_size, sampler=sampler, collate_fn=DocumentBatch)

    def _given_highlights(self) -> Highlights | None:
        if self._highlights is None and self.highlights is not None:
            self._highlights = read_highlights(self.highlights)
        return self._highlights

    def _cutter(self) -> partial[Document]:
        tokenizer = self.tokenizer
        if tokenizer is None and self.trainer is not None:
            tokenizer = getattr(self.trainer.lightning_module, "tokenizer", None)
        if tokenizer is None and self.max_tokens is not None:
            raise DataError(
                f"max_tokens={self.max_tokens} needs a tokenizer: give DocumentDataModule(tokenizer=...), or use a "
                "LightningModule with an attribute `tokenizer`"
            )
        return partial(cut_document, tokenizer=tokenizer, max_tokens=self.max_tokens)

    def _order_settings(self) -> dict[str, Any]:
        """The settings that decide which documents come when."""
        return {
            "documents": self.documents,
            "validation_documents": self.validation_documents,
            "batch_size": self.batch_size,
            "min_characters": self.selection.min_characters,
            "max_characters": self.selection.max_characters,
            "shuffle_window": self.shuffle_window,
            "holdout_share": self.holdout_share,
            "seed": self.seed,
            "num_workers": self.num_workers,
        }

    def _check_resumed(self) -> None:
        now = self._order_settings()
        before = self._resumed_settings or now
        changed = [
            f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in now if before.get(name) != now[name]
        ]
        if changed:
            raise DataError(
                "the checkpoint's place in the documents has no meaning under other data settings: "
                f"{'; '.join(changed)}. Resume with the settings of the checkpoint, or start a new run without it"
            )


def _cut_with_highlights(document: Document, cut: Callable[[Document], Document], highlights: Highlights) -> Document:
    return with_highlights(cut(document), highlights)
