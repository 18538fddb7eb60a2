"""An endless stream of document batches that goes on exactly where it stopped.

    source -> shard (rank x worker) -> selection -> windows, each shuffled -> cut -> batches with their position

A window is the next `shuffle_window` documents that may be trained on, permuted by a seed of its own. The position of
a shard is therefore small and exact: where the source stood when the window began, how many records had been skipped
by then, and how much of the window was handed out. Several sources are mixed in `mixture`.
"""

from __future__ import annotations

import abc
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import datasets
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from squish_pl.data.filters import HeldOut, Selection, read_documents
from squish_pl.data.skipped import Skipped
from squish_pl.errors import DataError, SquishError
from squish_pl.types import Document, DocumentBatch

Position = dict[str, Any]  #: the place after a document, as plain values


@dataclass
class Progress:
    """How far a rank's stream was trained on.

    Attributes:
        batches: Batches trained on.
        shards: For each shard, the position after its last batch that was trained on.
    """

    batches: int = 0
    shards: dict[str, Any] = field(default_factory=dict)

    def advance(self, batch: DocumentBatch) -> None:
        """Notes that a batch was handed to training."""
        self.batches += 1
        self.shards.update(batch.position)


class BatchStream(IterableDataset[DocumentBatch], abc.ABC):
    """Yields batches for ever, each time starting after `progress`.

    Every data worker of every rank reads a shard of its own. Use it with `StreamLoader`.

    Args:
        batch_size: Documents of a batch.
        rank: This process among all training processes.
        world_size: Number of training processes.
        progress: Where to begin; read whenever an iteration starts, never written.
    """

    def __init__(
        self, batch_size: int = 8, rank: int = 0, world_size: int = 1, progress: Progress | None = None
    ) -> None:
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.progress = progress or Progress()

    @abc.abstractmethod
    def documents(
        self, shard: int, shards: int, position: Position | None = None
    ) -> Iterator[tuple[Document, Position]]:
        """Yields the documents of a shard for ever, each with the position after it.

        Args:
            shard: Which one.
            shards: How many there are.
            position: Where to begin; None for the beginning.

        Raises:
            DataError: There are none.
        """

    def __iter__(self) -> Iterator[DocumentBatch]:
        worker = get_worker_info()
        if worker is None:
            yield from self._batches(worker=0, workers=1)
            return
        try:
            yield from self._batches(worker.id, worker.num_workers)
        except SquishError as error:
            yield error  # type: ignore[misc]  # for StreamLoader, which raises it

    def _batches(self, worker: int, workers: int) -> Iterator[DocumentBatch]:
        # The loader always asks worker 0 first. Batch b is shard b % workers' turn, also when b is not the first.
        shard = self.rank * workers + (worker + self.progress.batches) % workers
        stream = self.documents(shard, self.world_size * workers, self.progress.shards.get(str(shard)))
        while True:
            batch = list(islice(stream, self.batch_size))
            yield DocumentBatch([document for document, _ in batch], {str(shard): batch[-1][1]})


class DocumentStream(BatchStream):
    """The documents of one source, epoch after epoch.

    Args:
        source: Records of all shards.
        name: What the source is called in messages.
        batch_size: Documents of a batch.
        selection: Which documents are long enough and not too long; all by default.
        held_out: Which documents are left out; none by default.
        cut: Cuts a document to the token limit.
        shuffle_window: Documents that are shuffled together; 0 or 1 keeps the source's order.
        seed: Seed of the order.
        rank: This process among all training processes.
        world_size: Number of training processes.
        progress: Where to begin; read whenever an iteration starts, never written.
        max_bad_share: Share of a shard's records that may be unreadable; they are skipped and counted.
    """

    def __init__(
        self,
        source: datasets.IterableDataset,
        name: str = "the documents",
        batch_size: int = 8,
        selection: Selection | None = None,
        held_out: HeldOut | None = None,
        cut: Callable[[Document], Document] | None = None,
        shuffle_window: int = 256,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        progress: Progress | None = None,
        max_bad_share: float = 0.01,
    ) -> None:
        super().__init__(batch_size, rank, world_size, progress)
        self.source = source
        self.name = name
        self.selection = selection or Selection()
        self.held_out = held_out or HeldOut()
        self.cut = cut
        self.shuffle_window = max(1, shuffle_window)
        self.seed = seed
        self.max_bad_share = max_bad_share

    def documents(
        self, shard: int, shards: int, position: Position | None = None
    ) -> Iterator[tuple[Document, Position]]:
        """Yields the documents of a shard, each with the position after it; see `BatchStream`."""
        source = split_dataset_by_node(self.source, rank=shard, world_size=shards)
        beginning = source.state_dict()
        position = position or {"epoch": 0, "window": 0, "offset": 0, "source": beginning}
        epoch, number, offset, state = (position[key] for key in ("epoch", "window", "offset", "source"))
        skipped = Skipped(self.name, self.max_bad_share, **position.get("counts", {}))
        while True:
            counts: Counter[str] = Counter(used=offset)
            source.load_state_dict(state)
            documents = self._select(source, counts, skipped)
            before = skipped.state()
            while window := list(islice(documents, self.shuffle_window)):
                if self.shuffle_window > 1:
                    random.Random(f"{self.seed} {epoch} {shard} {number}").shuffle(window)
                for index, document in enumerate(window[offset:], offset + 1):
                    document = self.cut(document) if self.cut else document
                    if not document.text:
                        counts["of a first character with more than max_tokens tokens"] += 1
                        continue
                    counts["used"] += 1
                    place = {"epoch": epoch, "window": number, "offset": index, "source": state, "counts": before}
                    yield document, place | {"skipped": skipped.total, "first_skipped": skipped.first}
                number, offset, state, before = number + 1, 0, source.state_dict(), skipped.state()
            if not counts.pop("used"):
                raise DataError(self._nothing_left(shard, shards, counts, skipped))
            skipped.start_again()
            epoch, number, offset, state = epoch + 1, 0, 0, beginning

    def _select(self, source: datasets.IterableDataset, counts: Counter[str], skipped: Skipped) -> Iterator[Document]:
        """Yields the documents that may be trained on and counts the others by what is wrong with them."""
        for document in read_documents(source, skipped):
            counts["read"] += 1
            objection = self.selection.objection(document)
            if objection is None and document.id in self.held_out:
                objection = "held out for validation"
            if objection is None:
                yield document
            else:
                counts[objection] += 1

    def _nothing_left(self, shard: int, shards: int, counts: Counter[str], skipped: Skipped) -> str:
        read = counts.pop("read", 0) + skipped.bad
        if skipped.bad:
            counts[f"that cannot be read (the first: {skipped.first})"] = skipped.bad
        where = f" in part {shard + 1} of {shards} (one for each data worker of each device)" if shards > 1 else ""
        reasons = ", ".join(f"{count} {objection}" for objection, count in counts.items())
        hint = "use more documents, or change the limits on their length or holdout_share"
        if shards > 1:
            hint += ", or lower num_workers"
        return (
            f"{self.name} gave no document to train on{where}: {read} records were read"
            + (f", of them {reasons}" if reasons else "")
            + f". To go on, {hint}"
        )


class StreamLoader(DataLoader[DocumentBatch]):
    """A loader of a stream's batches, in an order that does not depend on the workers' speed.

    An error in a worker reaches the caller as it is, without a traceback pasted into its message.

    Args:
        stream: The batches.
        num_workers: Processes that read ahead; 0 reads in the caller's process.
    """

    def __init__(self, stream: BatchStream, num_workers: int = 0) -> None:
        super().__init__(stream, batch_size=None, num_workers=num_workers)

    def __iter__(self) -> Iterator[DocumentBatch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, SquishError):
                raise batch
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the DataModule keeps the place. It is here because Lightning warns about loaders without it."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing, see `state_dict`."""
