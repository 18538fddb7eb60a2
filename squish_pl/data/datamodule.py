"""The LightningDataModule: documents for training, validation and prediction."""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, DistributedSampler
from transformers import PreTrainedTokenizerBase

from squish_pl.data.filters import HeldOut, Selection, cut_document, read_documents
from squish_pl.data.highlights import Highlights, cut_with_highlights, read_highlights
from squish_pl.data.mixture import MixedStream
from squish_pl.data.settings import Documents, DocumentSource, data_problems, order_of, sources_of
from squish_pl.data.skipped import Skipped
from squish_pl.data.sources import has_validation_split, is_hub, open_source
from squish_pl.data.stream import BatchStream, DocumentStream, Progress, StreamLoader
from squish_pl.data.tally import Tally
from squish_pl.data.validation import quotas, validation_documents
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
        documents: "samples" for the package's own articles, "samples:KIND" for its other documents;
            hub://<owner>/<name>/<config> for a dataset of the Hugging Face hub, which is streamed; or a file (.jsonl,
            .json, also with .gz, .parquet, .txt), a folder or a glob pattern. JSON lines and Parquet need a field
            `text`, as in C4, or a chat in `messages` or `conversations`; a text file is one document. Or a list of
            sources that are mixed by weight, each such a text or a mapping with `documents` and what else a
            `DocumentSource` has.
        validation_documents: The same for validation; of several, each gives its part by weight. By default each
            source's validation split where it has one (samples, hub), else a part of it that is held out from training.
        highlights: JSON lines with summaries of `documents`, for a warm start (model.warm_start.source): a field
            `summary`, and `id`, `url` or `document` (the text) to tell whose. By default those that the records
            themselves have in a field `highlights`.
        batch_size: Documents of a training step, over all devices.
        min_characters: Length of the shortest document to train on and validate with, in characters; a source of a
            list may have its own.
        max_characters: Length of the longest, likewise.
        max_tokens: Longest document in tokens; longer ones are cut, and the score uses the cut text.
        shuffle_window: Documents of a source that are shuffled together; 0 keeps its order.
        validation_size: Documents of a validation.
        validation_batch_size: Documents of a validation or prediction step.
        holdout_share: Share of `documents` held out from training where validation has no documents of its own.
        seed: Seed of the order of the documents.
        num_workers: Processes that read ahead; 0 reads between the steps.
        max_bad_share: Share of a source's records that may be unreadable (no JSON, no text or chat, a broken file).
            They are skipped and counted; more of them end the run.
        tokenizer: Counts the tokens for `max_tokens`. Under a Trainer it is the module's own, `module.tokenizer`.

    Raises:
        ConfigError: Settings that make no sense; all problems are named together.
    """

    def __init__(
        self,
        documents: list[Any] | str = "samples",
        validation_documents: list[Any] | str | None = None,
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
        self._sources = sources_of(documents)
        splits_itself = all(has_validation_split(source.documents) for source in self._sources)
        self.holdout_share = 0.0 if validation_documents is not None or splits_itself else holdout_share
        self._validation: list[Document] | None = None
        self._highlights: Highlights | None = None
        self._progress = Progress()
        self._tally = Tally(self._sources, self._mixed, self._progress, lambda: self._shards)
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
        if highlights is not None:
            cut = partial(cut_with_highlights, cut=cut, highlights=highlights)
        ids = frozenset(document.id for document in self._validation_set())
        streams = {source.title: self._stream(source, ids, cut) for source in self._sources}
        stream: BatchStream
        (stream, *_) = streams.values()
        if self._mixed:
            weights = {source.title: source.weight for source in self._sources}
            stream = MixedStream(streams, weights, self.seed, self.batch_size, progress=self._progress)
        return StreamLoader(stream, self.num_workers)

    def _stream(self, source: DocumentSource, held_out: frozenset[str], cut: partial[Document]) -> DocumentStream:
        return DocumentStream(
            open_source(source.documents, text_field=source.text_field),
            name=source.about,
            batch_size=self.batch_size,
            selection=source.selection(self.selection),
            held_out=HeldOut(held_out, self._held_out_share(source)),
            cut=cut,
            shuffle_window=self.shuffle_window,
            seed=self.seed,
            progress=self._progress,
            max_bad_share=self.max_bad_share,
        )

    def val_dataloader(self) -> DataLoader[Document]:
        """A loader of the validation documents, the same ones every time."""
        return self._once(self._validation_set())

    def predict_dataloader(self) -> DataLoader[Document]:
        """A loader of all documents, in order, each once; they are cut but not selected.

        Raises:
            DataError: The documents are a whole dataset of the hub, or (too many of) their records cannot be read.
        """
        for source in self._sources:
            if is_hub(source.documents):
                raise DataError(
                    f"prediction summarises every document, and {source.documents} is a whole dataset: name a file or "
                    "folder with --data.documents"
                )
        return self._once([document for source in self._sources for document in self._all_of(source)])

    def _all_of(self, source: DocumentSource) -> list[Document]:
        skipped = self._skipped(source)
        documents = list(read_documents(open_source(source.documents, text_field=source.text_field), skipped))
        if skipped.bad and not documents:
            raise DataError(f"nothing of {source.about} can be read: {skipped.first}")
        if skipped.bad:
            log.warning("%s", skipped.summary())
        return _marked(documents, source, self.documents)

    def transfer_batch_to_device(
        self, batch: DocumentBatch, device: torch.device, dataloader_idx: int
    ) -> DocumentBatch:
        """Leaves the batch as it is: texts lie on no device."""
        return batch

    def on_after_batch_transfer(self, batch: DocumentBatch, dataloader_idx: int) -> DocumentBatch:
        """Moves the position on. Called just before a batch's step, so not for batches that were only read ahead."""
        if batch.position:  # only training batches have one
            self._tally.advance(batch)
        return batch

    @property
    def figures(self) -> dict[str, float]:
        """For the dashboard, of the documents so far; see `Tally`."""
        return self._tally.figures()

    @property
    def budgets(self) -> dict[str, list[str]]:
        """The budgets of those sources that have their own, by their names as in `Document.source`."""
        return {source.title: list(source.budgets) for source in self._sources if source.budgets and self._mixed}

    @property
    def title(self) -> str:
        """What the documents are, for people."""
        return ", ".join(source.told() for source in self._sources) if self._mixed else str(self.documents)

    def state_dict(self) -> dict[str, Any]:
        """The place in the training documents, the same on all processes."""
        position = dict(self._progress.shards)
        return {"batches": self._progress.batches, "position": position, "settings": self._order_settings()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up a place. Whether the settings fit it is checked when training asks for its loader."""
        self._progress.batches = state_dict["batches"]
        self._progress.shards = dict(state_dict["position"])
        self._resumed_settings = dict(state_dict["settings"])

    @property
    def _mixed(self) -> bool:
        """Whether there is a list of sources; a single one has no name, and the place in it another form."""
        return not isinstance(self.documents, str)

    @property
    def _shards(self) -> list[str]:
        return [str(worker) for worker in range(max(1, self.num_workers))]

    def _skipped(self, source: DocumentSource) -> Skipped:
        return Skipped(source.about, self.max_bad_share)

    def _held_out_share(self, source: DocumentSource) -> float:
        return 0.0 if has_validation_split(source.documents) else self.holdout_share

    def _validation_set(self) -> list[Document]:
        """`validation_size` different documents, uncut: each source's first ones that validation may use."""
        if self._validation is None:
            own = self.validation_documents is not None
            given = self.documents if self.validation_documents is None else self.validation_documents
            sources = sources_of(given)
            found: dict[str, Document] = {}
            for source, size in zip(sources, quotas([s.weight for s in sources], self.validation_size), strict=True):
                if size:
                    share = 0.0 if own else self._held_out_share(source)
                    limits = source.selection(self.selection)
                    read = validation_documents(source, size, limits, share, self._skipped(source))
                    for document in _marked(read, source, given):
                        found.setdefault(document.id, document)
            self._validation = list(found.values())
        return self._validation

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
            "documents": order_of(self.documents),
            "validation_documents": order_of(self.validation_documents),
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


def _marked(documents: list[Document], source: DocumentSource, given: Documents) -> list[Document]:
    """With the name of their source, where a list of them is given."""
    return documents if isinstance(given, str) else [replace(document, source=source.title) for document in documents]
