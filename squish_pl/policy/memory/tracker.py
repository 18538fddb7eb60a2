"""Most memory that a piece of work holds at a time, on any device: the CPU and "meta" keep no such figure."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class AllocationTracker(TorchDispatchMode):
    """Counts the bytes of tensors that come to life inside it; what was there before does not count.

    It sees every operator's results, those of backward and of recomputed layers too, but nothing that a kernel
    allocates for itself and frees again.

    Attributes:
        live: Bytes held now.
        peak: Most bytes held at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = {_key(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _key(tensor) not in before:  # no view of what it was given
                self._add(tensor)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that some work holds at a time beyond what was there before, by counting tensors.

    Args:
        work: Runs on any device, "meta" included, where nothing is computed.
    """
    with AllocationTracker() as tracker:
        work()
    return tracker.peak
