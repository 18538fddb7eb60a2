"""Whole rounds of a run in one process and in several, started as a user would, each with one thread.

python benchmarks/scaling.py --config smollm2.yaml --devices '[1, 2]' --rounds 5
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import psutil
from jsonargparse import auto_cli

ROOT = Path(__file__).parents[1]


def main(
    config: str = "smollm2.yaml", devices: list[int] = [1, 2], rounds: int = 5, turns: int = 1, settings: list[str] = []
) -> None:
    """Measures seconds a round and tells rounds a minute; ways in turn.

    Args:
        config: Of the run.
        devices: Numbers of processes.
        rounds: Of each run; the first one warms up and is left out.
        turns: Runs of each number.
        settings: Further arguments of the command line.
    """
    seconds: dict[int, list[float]] = {count: [] for count in devices}
    for turn in range(turns):
        for count in devices:
            others = psutil.getloadavg()[0]
            seconds[count] += run(config, count, rounds, settings)
            print(f"turn {turn + 1}, {count} processes: load of the machine before {others:.1f}", flush=True)
    base = median(seconds[devices[0]])
    for count, some in seconds.items():
        middle = median(some)
        spread = f"{middle:.2f} s a round [{min(some):.2f}, {max(some):.2f}]"
        print(f"{count} processes: {spread}, {60 / middle:.2f} rounds a minute, {base / middle:.2f} x")


def run(config: str, devices: int, rounds: int, settings: list[str]) -> list[float]:
    """Seconds of each round but the first."""
    with tempfile.TemporaryDirectory() as folder:
        logger = f'{{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {{"save_dir": "{folder}"}}}}'
        options = {
            "trainer.accelerator": "cpu",
            "trainer.devices": devices,
            "trainer.max_steps": rounds,
            "trainer.num_sanity_val_steps": 0,
            "trainer.limit_val_batches": 0,
            "trainer.val_check_interval": "null",
            "trainer.enable_progress_bar": "false",
            "trainer.log_every_n_steps": 1,
            "trainer.logger": logger,
            "checkpoint.dirpath": f"{folder}/run",
        }
        command = [sys.executable, str(ROOT / "lightning_cli.py"), "fit", "--config", config]
        command += [f"--{name}={value}" for name, value in options.items()] + settings
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(folder).rglob("metrics.csv")
        with path.open() as file:
            found = [float(row["seconds/round"]) for row in csv.DictReader(file) if row.get("seconds/round")]
    return found[1:]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
