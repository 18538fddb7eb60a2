"""The real command line in several processes: forked, so that each starts at once and can be killed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

from squish_pl.benchmark import score_job
from squish_pl.cli.main import main

FORK = multiprocessing.get_context("fork")


@dataclass
class Run:
    """A process that runs the command line.

    Attributes:
        process: Its exit code is the command's.
        told: File with what it prints, errors too.
    """

    process: BaseProcess
    told: Path

    def end(self, seconds: float = 120) -> tuple[int, str]:
        """Waits; exit code and what was printed."""
        self.process.join(seconds)
        assert not self.process.is_alive(), f"it goes on:\n{self.told.read_text()}"
        assert self.process.exitcode is not None
        return self.process.exitcode, self.told.read_text()

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def start(arguments: Sequence[str], folder: Path, name: str, environment: Mapping[str, str] | None = None) -> Run:
    """Starts the command line in a process of its own."""
    told = folder / f"{name}.txt"

    def run() -> None:
        os.environ.update(environment or {})
        with told.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            code = main(list(arguments))
        os._exit(code)

    process = FORK.Process(target=run)
    process.start()
    return Run(process, told)


def note_scoring(monkeypatch: Any, folder: Path, at_a_time: int, seconds: float = 0.0) -> Callable[[], Counter[str]]:
    """Lets processes to be started score in small portions, slowly, and note what they measure; gives what they did."""
    monkeypatch.setattr(score_job, "_SCORED_AT_A_TIME", at_a_time)
    measure, notes = score_job._measure, folder / "measured.txt"

    def noted(scorer: Any, wanted: Mapping[Any, Any], others: Any) -> Any:
        with notes.open("a") as file:
            file.write("".join(f"{' '.join(key)}\n" for key in wanted))
        time.sleep(seconds)
        return measure(scorer, wanted, others)

    monkeypatch.setattr(score_job, "_measure", noted)
    return lambda: Counter(notes.read_text().splitlines() if notes.exists() else [])


def write_config(folder: Path, texts: Sequence[str], model: Path, contenders: Sequence[Any], **settings: Any) -> Path:
    """A configuration with its documents beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"text": text, "id": f"a{i}", "highlights": "A goat." if i else ""} for i, text in enumerate(texts)]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = {
        "contenders": list(contenders),
        "documents": str(folder / "docs.jsonl"),
        "budgets": ["40%", "30 tokens"],
        "references": [{"base": str(model), "name": "tiny"}],
        "store": str(folder / "store.sqlite"),
        "output": str(folder / "out"),
        "logs": None,
        "device": "cpu",
        **settings,
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def wait_for(done: Callable[[], bool], runs: Sequence[Run], seconds: float = 120) -> None:
    """Waits until something is so, as long as all runs live."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        assert all(run.process.is_alive() for run in runs), [run.told.read_text() for run in runs]
        time.sleep(0.01)


def rows(store: Path, table: str) -> int:
    """Rows of a table; 0 where there is none yet."""
    if not store.exists():
        return 0
    database = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=60)
    try:
        (found,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    except sqlite3.OperationalError:
        return 0
    finally:
        database.close()
    return int(found)


def kill(run: Run) -> None:
    """Kill -9, and no trace of the process left."""
    run.signal(signal.SIGKILL)
    run.process.join()
