"""Records that cannot be read: passed over and counted, as long as there are few of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from squish_pl.errors import DataError

_ENOUGH = 100  # records read before a share of them means anything


@dataclass
class Skipped:
    """Counts the records of a source that cannot be read, and judges them.

    Attributes:
        name: What the source is called in messages.
        max_share: Share of the records, of one time through the source, that may be bad.
        read: Records read, this time through.
        bad: Those of them that cannot be read.
        total: The same over all times through.
        found: Whether any record could be read, ever.
        first: Where the first one is, and what is wrong with it.
    """

    name: str
    max_share: float
    read: int = 0
    bad: int = 0
    total: int = 0
    found: bool = False
    first: str = ""

    def good(self) -> None:
        """Notes a record that can be read."""
        self.found = True
        self.read += 1
        self._judge()

    def add(self, problem: str, hopeless: bool = False) -> None:
        """Notes one that cannot.

        Args:
            problem: Where it is and what is wrong with it.
            hopeless: Whether nothing in its file can be read.

        Raises:
            DataError: Nothing could be read so far, or more than `max_share` is bad.
        """
        if hopeless and not self.found:
            raise DataError(self.first or problem)
        self.first = self.first or problem
        self.read += 1
        self.bad += 1
        self.total += 1
        self._judge()

    def start_again(self) -> None:
        """Begins another time through the source."""
        self.read = self.bad = 0

    def state(self) -> dict[str, Any]:
        """The counts, as plain values."""
        return {name: value for name, value in asdict(self).items() if name not in ("name", "max_share")}

    def summary(self) -> str:
        """How many were skipped and where the first one is; empty where there are none."""
        if not self.bad:
            return ""
        return f"{self.name}: skipped {self.bad} of {self.read} records, which cannot be read; the first: {self.first}"

    def _judge(self) -> None:
        if self.read >= _ENOUGH and self.bad > self.max_share * self.read:
            raise DataError(
                f"{self.bad} of {self.read} records of {self.name} cannot be read, and data.max_bad_share allows "
                f"{self.max_share:g} of them. The first: {self.first}. Mend the documents, or raise data.max_bad_share"
            )
