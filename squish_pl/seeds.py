"""Seeds that depend on where in a run a draw happens, and on nothing else.

Nothing has to be remembered for a draw to be repeated after a stop: the same run, round and document give the same one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch

T = TypeVar("T")


def derive_seed(*place: int | str) -> int:
    """A 63-bit seed from the place of a draw, such as (run seed, round, rank, document)."""
    digest = hashlib.sha256("/".join(map(str, place)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def choose(options: Sequence[T], *place: int | str) -> T:
    """One of the options, drawn evenly at a place."""
    return random.Random(derive_seed(*place)).choice(options)


def random_state() -> dict[str, Any]:
    """State of every global generator, as plain values and tensors (so that weights_only loading takes it)."""
    _, keys, position, has_gauss, gauss = cast("tuple[str, Any, int, int, float]", np.random.get_state(legacy=True))
    version, words, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else [],
        "numpy": [torch.from_numpy(keys.astype("int64")), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), gauss_next],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Sets every global generator back."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype("uint32"), position, has_gauss, gauss))
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
