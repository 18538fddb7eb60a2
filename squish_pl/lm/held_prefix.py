"""A prefix that is read once, and stands in front of every row of later passes.

    read(prefix) -> keys and values of each layer, held -> hidden(rows, cache=held): each row as if behind the prefix

Keys and values of a layer are widened to the rows only while that layer runs: a group's rows hold one prefix together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


class HeldPrefix(Cache):
    """The keys and values that a pass over a prefix left behind; passes over rows read them and add nothing.

    Args:
        read: The cache of a pass over the prefix, [1, P].
    """

    def __init__(self, read: DynamicCache) -> None:
        super().__init__(layers=[_HeldLayer(layer) for layer in read.layers if isinstance(layer, DynamicLayer)])

    @staticmethod
    def can_hold(read: DynamicCache) -> bool:
        """Whether every layer has keys and values of the whole prefix; recurrent ones have not."""
        return bool(read.layers) and all(type(layer) is DynamicLayer and layer.is_initialized for layer in read.layers)


class _HeldLayer(DynamicLayer):
    def __init__(self, read: DynamicLayer) -> None:
        super().__init__()
        assert read.keys is not None
        assert read.values is not None
        self.lazy_initialization(read.keys, read.values)
        self.keys, self.values = read.keys, read.values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """[B, H, L, D] of the rows -> [B, H, P + L, D], the prefix's in front."""
        assert self.keys is not None
        assert self.values is not None
        rows = len(key_states)
        return (
            torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=-2),
            torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=-2),
        )
