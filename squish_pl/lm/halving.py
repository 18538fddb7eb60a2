"""Out of memory is no end: the work is done again in pieces half as large."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from squish_pl.errors import SquishError
from squish_pl.lm.device import release

log = logging.getLogger(__name__)

T = TypeVar("T")

# what others than torch's allocator for CUDA say, in a plain RuntimeError
_WORDS = (
    "can't allocate memory",  # the CPU's
    "not enough memory",
    "CUDA error: out of memory",  # the driver's: outside of torch's allocator, such as loading a kernel
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class Limit:
    """How much goes through the model at a time.

    Args:
        what: The work, for people: "policy pass".
        unit: "tokens" or "rows".
        value: Where it starts.
        ran_out: Called with the size that was too large; may save memory in some other way, and tells whether it did.

    Attributes:
        value: The limit now.
        in_hand: Size of the piece that is worked on; a piece that is too large tells how far to go down.
    """

    def __init__(self, what: str, unit: str, value: int, ran_out: Callable[[int], bool] | None = None) -> None:
        self.what, self.unit, self.value = what, unit, value
        self.in_hand = value
        self._ran_out = ran_out

    def take(self, size: int) -> None:
        """Notes the size of a piece before it is worked on."""
        self.in_hand = size

    def halve(self, least: int) -> bool:
        """Goes down to half of the piece in hand; false if nothing can be saved any more.

        Args:
            least: Size of the smallest piece that the work can be done in.
        """
        size = min(self.value, self.in_hand)
        saved = self._ran_out(self.in_hand) if self._ran_out is not None else False
        if self.in_hand <= least:
            return saved
        self.value = max(1, least, size // 2)
        return True


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def within(limit: Limit, device: torch.device, work: Callable[[], T], least: int, advice: str) -> T:
    """Does some work under a limit; each time that memory runs out, again from the start under half of it.

    Args:
        limit: The work keeps to its value, and tells it the size of each piece (`Limit.take`).
        device: Where the work runs.
        work: Can be done again after it has failed.
        least: Size of the smallest piece that the work can be done in.
        advice: What a person can do when that one does not fit.

    Raises:
        SquishError: The smallest piece does not fit.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        # here, behind the handler: while an error is handled, its traceback holds what the failed work had allocated
        release(device)
        size = limit.in_hand
        if not limit.halve(least):
            raise SquishError(
                f"out of memory in a {limit.what} of {size:,} {limit.unit}, the smallest there is: {advice}"
            )
        next_try = f"at most {limit.value:,}" if limit.value < size else "less kept for backward"
        log.warning("out of memory in a %s of %d %s: going on with %s", limit.what, size, limit.unit, next_try)
