"""Which machine this is, and whether a process of it still lives."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

import psutil


@cache
def here() -> str:
    """By which processes know that they can see each other: machine, its start, and the container's process numbers."""
    facts = [socket.gethostname()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        try:
            facts.append(read())
        except OSError:  # another system than Linux
            facts.append(str(psutil.boot_time()))
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:12]


def is_gone(pid: int) -> bool:
    """Whether a process of this machine has ended, waited for by its parent or not."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
