"""Whole rounds of a run in one process and in several, started as a user would, each with one thread on a CPU.

python benchmarks/scaling.py --config smollm2.yaml --devices '[1, 2]' --rounds 4 \
        --settings '["--data.batch_size=4", "--model.warm_start.rounds=0"]'
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer

from squish_pl.parallel.processes import gather

ROOT = Path(__file__).parents[1]
WALL, CPU = "seconds/wall", "seconds/cpu"


class Clock(Callback):
    """Logs each round's wall seconds, and the processor's of the process that needed most, which know no noise."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        own = time.process_time() - self._cpu
        pl_module.log_dict({CPU: max(gather(own)), WALL: time.perf_counter() - self._wall}, batch_size=1)


def main(
    config: str = "smollm2.yaml", devices: list[int] = [1, 2], rounds: int = 4, turns: int = 1, settings: list[str] = []
) -> None:
    """Measures rounds a minute.

    Args:
        config: Of the run.
        devices: Numbers of processes.
        rounds: Of each run; the first one warms up and is left out.
        turns: Runs of each number, in turn.
        settings: Further arguments of the command line.
    """
    found: dict[int, list[dict[str, float]]] = {count: [] for count in devices}
    for turn in range(turns):
        for count in devices:
            print(f"turn {turn + 1}, {count} processes: {psutil.getloadavg()[0]:.1f} others at work before", flush=True)
            found[count] += run(config, count, rounds, settings)
    for key in (WALL, CPU):
        base = median(of_round[key] for of_round in found[devices[0]])
        for count, of_rounds in found.items():
            some = [of_round[key] for of_round in of_rounds]
            told = f"{median(some):.2f} [{min(some):.2f}, {max(some):.2f}]"
            print(f"{key}, {count} processes: {told} a round, {base / median(some):.2f} x", flush=True)


def run(config: str, devices: int, rounds: int, settings: list[str]) -> list[dict[str, float]]:
    """Seconds of each round but the first."""
    with tempfile.TemporaryDirectory() as folder:
        logger = f'{{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {{"save_dir": "{folder}"}}}}'
        options = {
            "trainer.accelerator": "cpu",
            "trainer.devices": devices,
            "trainer.max_steps": rounds,
            "trainer.num_sanity_val_steps": 0,
            "trainer.limit_val_batches": 0,
            "trainer.enable_progress_bar": "false",
            "trainer.log_every_n_steps": 1,
            "trainer.logger": logger,
            "trainer.callbacks": '[{"class_path": "scaling.Clock"}]',
            "checkpoint.dirpath": f"{folder}/run",
        }
        command = [sys.executable, str(ROOT / "lightning_cli.py"), "fit", "--config", config]
        command += [f"--{name}={value}" for name, value in options.items()] + settings
        path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        (written,) = Path(folder).rglob("metrics.csv")
        with written.open() as file:
            rows = [row for row in csv.DictReader(file) if row.get(CPU)]
    return [{key: float(row[key]) for key in (WALL, CPU)} for row in rows[1:]]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
