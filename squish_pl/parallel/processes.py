"""The processes of a run: each works on its share of every batch, and they meet now and then.

    documents, the same on all ─ share ─> rollouts, rewards of its own ─ gather ─> those of the whole batch on all
    rows, the same on all      ─ share ─> gradients of its own         ─ add_up ─> the same optimiser step on all

What a process does between two meetings, in how many slices, and whether it ran out of memory on the way, is its own
affair: the others wait. One process alone needs none of this, and no process group.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import zip_longest
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from squish_pl.parallel.ending import SharedError, cause, end_watch, watch

T = TypeVar("T")

_LONGEST_WAIT = timedelta(hours=12)  # for another one's rollouts; one that has ended is noticed at once


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among them; the first one, 0, writes and speaks for all."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def begin() -> None:
    """Opens the ways on which the processes talk, as soon as there is a process group; every process has to call it."""
    if size() > 1:
        _talk(dist.group.WORLD)
        watch()


def finish() -> None:
    """From here on a process goes its own way."""
    end_watch()


def share(count: int) -> range:
    """Places of a batch that are this process's."""
    return range(rank(), count, size())


def in_order(shares: Sequence[Sequence[T]]) -> list[T]:
    """Undoes `share`: what the processes made of their places, by rank -> in the batch's order."""
    nothing = object()
    return [cast(T, one) for row in zip_longest(*shares, fillvalue=nothing) for one in row if one is not nothing]


def gather(value: T) -> list[T]:
    """Every process's value, by rank; plain objects and tensors on the CPU.

    Raises:
        SharedError: Another process has ended.
    """
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    try:
        dist.all_gather_object(values, value, group=_talk(dist.group.WORLD))
    except RuntimeError as error:
        raise cause() from error
    return values


def agree(value: object, problem: str) -> None:
    """Makes sure that all processes have the same value.

    Raises:
        SharedError: They do not.
    """
    values = gather(value)
    if any(other != values[0] for other in values):
        raise SharedError(problem)


def of_node(value: T) -> list[T]:
    """The values of the processes on this machine."""
    host = socket.gethostname()
    return [other for name, other in gather((host, value)) if name == host]


def add_up(tensors: Sequence[Tensor]) -> None:
    """Sums over all processes, in place, in a single exchange; to the last bit the same on all.

    Args:
        tensors: Of one device and type on all processes, in the same order.

    Raises:
        SharedError: Another process has ended.
    """
    if size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    try:
        dist.all_reduce(flat)
    except RuntimeError as error:
        raise cause() from error
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@lru_cache(maxsize=1)
def _talk(world: object) -> Any:
    """A group over gloo beside the one that the gradients go over: no object has to go through a GPU's memory."""
    return dist.new_group(backend="gloo", timeout=_LONGEST_WAIT)
