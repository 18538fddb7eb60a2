"""What each source of documents gave to training so far, and how many of its records could not be read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from squish_pl.data.settings import DocumentSource
from squish_pl.data.stream import Position, Progress
from squish_pl.types import DocumentBatch

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """Notes the batches trained on.

    Attributes:
        sources: Where the documents come from.
        mixed: Whether they were given as a list; a single source has no name, and the place in it another form.
        progress: How far this device's stream was trained on.
        shards: This device's parts of the documents; a checkpoint's progress holds those of all devices.
    """

    sources: Sequence[DocumentSource]
    mixed: bool
    progress: Progress
    shards: Callable[[], Collection[str]]

    def advance(self, batch: DocumentBatch) -> None:
        """Moves the position on; tells a source's first skipped record, and whenever their number has a digit more."""
        before = self.skipped()
        self.progress.advance(batch)
        read = _places(batch.position.values())
        for source, (name, now) in zip(self.sources, self.skipped().items(), strict=True):
            was = before[name]
            if len(str(now)) > len(str(was)) or now > was == 0:
                first = read[name][0]["first_skipped"]
                log.warning("%s: %d unreadable records skipped so far, such as %s", source.about, now, first)

    def skipped(self) -> dict[str, int]:
        """Records that could not be read, by source, up to the last windows that were trained on."""
        found = _places(self._positions)
        names = [source.title for source in self.sources] if self.mixed else [""]
        return {name: sum(place.get("skipped", 0) for place in found.get(name, ())) for name in names}

    def shares(self) -> dict[str, float]:
        """Share of the documents trained on that each source gave."""
        drawn: Counter[str] = Counter()
        for position in self._positions:
            drawn.update(position.get("drawn", {}))
        return {source.title: drawn[source.title] / max(1, drawn.total()) for source in self.sources}

    def figures(self) -> dict[str, float]:
        """For the dashboard: records skipped, of all sources together and, in a list, of each; and their shares."""
        skipped = self.skipped()
        found = {"data/skipped": float(sum(skipped.values()))}
        if self.mixed:
            found |= {f"data/skipped/{name}": float(number) for name, number in skipped.items()}
            found |= {f"data/share/{name}": share for name, share in self.shares().items()}
        return found

    @property
    def _positions(self) -> list[Position]:
        return [self.progress.shards[shard] for shard in self.shards() if shard in self.progress.shards]


def _places(positions: Collection[Position]) -> dict[str, list[Position]]:
    """The places in each source; in a single one under the empty name."""
    found: dict[str, list[Position]] = {}
    for position in positions:
        for name, place in position.get("sources", {"": position}).items():
            found.setdefault(name, []).append(place)
    return found
