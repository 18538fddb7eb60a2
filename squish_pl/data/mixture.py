"""Documents of several sources, mixed by weight.

    each source's stream ─┐
    each source's stream ─┼─ the n-th document of a shard: a source drawn by seed, shard and n ─> batches
    each source's stream ─┘

Nothing but how many documents each source gave has to be remembered of the draws; the sources' own places stand beside.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

from squish_pl.data.stream import BatchStream, DocumentStream, Position, Progress
from squish_pl.types import Document


class MixedStream(BatchStream):
    """Documents of several sources; each goes over its own for ever, epoch after epoch.

    Args:
        sources: Their streams by name. Whatever is told here of batches, ranks and progress is not looked at there.
        weights: How often each is drawn, in proportion, by the same names.
        seed: Of the draws.
        batch_size: See `BatchStream`, as the others.
        rank: This process among all training processes.
        world_size: Number of training processes.
        progress: Where to begin.
    """

    def __init__(
        self,
        sources: Mapping[str, DocumentStream],
        weights: Mapping[str, float],
        seed: int = 0,
        batch_size: int = 8,
        rank: int = 0,
        world_size: int = 1,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(batch_size, rank, world_size, progress)
        self.sources = dict(sources)
        self.weights = [weights[name] for name in self.sources]
        self.seed = seed

    def documents(
        self, shard: int, shards: int, position: Position | None = None
    ) -> Iterator[tuple[Document, Position]]:
        """Yields the documents of a shard, each with the position after it; see `BatchStream`."""
        position = position or {"drawn": {}, "sources": {}}
        drawn: Counter[str] = Counter(position["drawn"])
        places, names = dict(position["sources"]), list(self.sources)
        streams = {name: source.documents(shard, shards, places.get(name)) for name, source in self.sources.items()}
        for number in count(drawn.total()):
            draw = random.Random(f"{self.seed} source {shard} {number}")
            (name,) = draw.choices(names, self.weights)
            document, places[name] = next(streams[name])
            drawn[name] += 1
            yield replace(document, source=name), {"drawn": dict(drawn), "sources": dict(places)}
