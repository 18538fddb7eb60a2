"""How much memory a device has and has left."""

from __future__ import annotations

import gc
from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")  # of a container: its limit may be far below the machine's memory


def device_name(device: torch.device) -> str:
    """The device as people know it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def total_bytes(device: torch.device) -> int:
    """Memory that this process may use at most."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _fraction(device))
    limit = _cgroup_bytes("memory.max")
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(total, limit)


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still take."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        unused = reserved - torch.cuda.memory_allocated(device)  # the allocator's own, ready to be used again
        return int(min(free, total * _fraction(device) - reserved)) + unused
    available = int(psutil.virtual_memory().available)
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    return available if limit is None or used is None else max(0, min(available, limit - used))


def used_bytes(device: torch.device) -> int:
    """Memory that this process holds."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def release(device: torch.device) -> None:
    """Gives back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _fraction(device: torch.device) -> float:
    ask = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # newer versions of torch
    return float(ask(device)) if ask is not None else 1.0


def _cgroup_bytes(name: str) -> int | None:
    try:
        text = (_CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max": no limit
