"""What goes wrong on one process of two ends both, and is said once; none waits for the other for ever."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_tools import tiny_arguments
from several import finish, start

from squish_pl.cli.main import main

LIMIT = 90  #: seconds that all processes of a test have for ending
ROOT = Path(__file__).parents[2]


def arguments(model: Path, folder: Path, fault: str = "", rank: int = 1, rounds: int = 4, round_: int = 1) -> list[str]:
    given = ["fit", *tiny_arguments(model, folder, rounds), "--trainer.devices=2", "--trainer.strategy=ddp"]
    given += ["--data.batch_size=3", "--checkpoint.every_n_rounds=1", "--trainer.enable_progress_bar=false"]
    given += ["--trainer.val_check_interval=100", "--trainer.num_sanity_val_steps=0", "--trainer.logger=false"]
    if fault:
        init = f'{{"kind": "{fault}", "rank": {rank}, "round": {round_}}}'
        given.append(f'--trainer.callbacks=[{{"class_path": "faults.Fault", "init_args": {init}}}]')
    return given


def command(given: list[str], log: Path) -> None:
    """Runs the command line in this process, which ends with its exit code."""
    with (log.with_name(f"{log.name}-{os.environ['LOCAL_RANK']}")).open("w", buffering=1) as file:
        sys.stdout = sys.stderr = file
        try:
            code = main(given)
        except SystemExit as stop:
            code = int(stop.code or 0)
    os._exit(code)


def run(folder: Path, given: list[str]) -> tuple[list[int | None], str]:
    """Exit codes and what stood on the screen."""
    codes = finish(start(2, command, folder, given, folder / "screen"), LIMIT)
    return codes, "\n".join(path.read_text() for path in sorted(folder.glob("screen-*")))


def saved_round(folder: Path) -> int:
    return int(torch.load(folder / "run" / "last.ckpt", weights_only=True)["squish"]["round"])


def errors(screen: str) -> list[str]:
    return re.findall(r"^error: .*", screen, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "rank", "message"),
    [
        ("document", 0, "process 1 of 2: documents.jsonl, line 7"),
        ("document", 1, "process 2 of 2: documents.jsonl, line 7"),
        ("memory", 0, "process 1 of 2: out of memory in a policy pass"),
        ("memory", 1, "process 2 of 2: out of memory in a policy pass"),
        ("strange", 1, "round 2: the loss is nan (on process 2 of 2)"),
        ("disk", 0, "process 1 of 2: cannot write"),
    ],
)
def test_an_error_on_one_process_ends_both_and_stands_once(
    fault: str, rank: int, message: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    codes, screen = run(tmp_path, arguments(tiny_model_folder, tmp_path, fault, rank))
    assert codes == [2, 0], screen  # of the first process; a launcher takes another code for a reason to kill
    assert len(errors(screen)) == 1, screen
    assert errors(screen)[0].startswith(f"error: {message}")
    assert "Traceback" not in screen
    assert saved_round(tmp_path) == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_bug_is_told_with_its_traceback(rank: int, tiny_model_folder: Path, tmp_path: Path) -> None:
    codes, screen = run(tmp_path, arguments(tiny_model_folder, tmp_path, "bug", rank))
    assert codes == ([1, 0] if rank == 0 else [2, 0]), screen
    assert screen.count("KeyError: 'a bug'") == (1 if rank == 0 else 2)
    assert screen.count("Traceback") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_other(rank: int, tiny_model_folder: Path, tmp_path: Path) -> None:
    codes, screen = run(tmp_path, arguments(tiny_model_folder, tmp_path, "kill", rank))
    assert codes == ([-signal.SIGKILL, 0] if rank == 0 else [2, -signal.SIGKILL]), screen
    assert len(errors(screen)) == rank
    assert rank == 0 or "another process of the run has ended without a word" in screen
    assert "Traceback" not in screen


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_saves_and_ends_both_after_the_round(rank: int, tiny_model_folder: Path, tmp_path: Path) -> None:
    codes, screen = run(tmp_path, arguments(tiny_model_folder, tmp_path, "term", rank))
    assert codes == [143, 0], screen
    assert saved_round(tmp_path) == 2
    assert screen.count("the same command with --ckpt_path last goes on") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_ctrl_c_on_one_ends_both(rank: int, tiny_model_folder: Path, tmp_path: Path) -> None:
    codes, screen = run(tmp_path, arguments(tiny_model_folder, tmp_path, "interrupt", rank))
    assert codes == [1, 0], screen  # Lightning's code for it, as with one process
    assert saved_round(tmp_path) == 1
    assert screen.count("the same command with --ckpt_path last goes on") == 1
    assert not errors(screen)
    assert "Traceback" not in screen


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_stopping_early_on_one_stops_both(rank: int, tiny_model_folder: Path, tmp_path: Path) -> None:
    codes, screen = run(tmp_path, arguments(tiny_model_folder, tmp_path, "stop", rank))
    assert codes == [0, 0], screen
    assert saved_round(tmp_path) == 2
    assert screen.count("After 2 rounds") == 1


# ---- with processes started by Lightning and by torchrun, in new interpreters ----


def started(given: list[str], folder: Path, torchrun: bool = False) -> subprocess.Popen[str]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    launcher = [sys.executable]
    if torchrun:
        launcher += ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path, "MASTER_PORT": str(port)}
    screen: Any = (folder / "screen").open("w")
    return subprocess.Popen(
        [*launcher, str(ROOT / "lightning_cli.py"), *given],
        env=environment,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], folder: Path, limit: float = 2 * LIMIT) -> tuple[int, str]:
    try:
        code = process.wait(limit)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return code, (folder / "screen").read_text()


@pytest.mark.slow
def test_lightning_starts_the_processes_of_a_command(tiny_model_folder: Path, tmp_path: Path) -> None:
    code, screen = ended(started(arguments(tiny_model_folder, tmp_path), tmp_path), tmp_path)
    assert code == 0, screen
    assert screen.count("After 4 rounds") == 1
    assert saved_round(tmp_path) == 4


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_exit_code_and_message_of_a_command(rank: int, tiny_model_folder: Path, tmp_path: Path) -> None:
    given = arguments(tiny_model_folder, tmp_path, "document", rank)
    code, screen = ended(started(given, tmp_path), tmp_path)
    assert code == 2, screen
    assert len(errors(screen)) == 1
    assert f"process {rank + 1} of 2: documents.jsonl, line 7" in screen


@pytest.mark.slow
def test_a_wrong_setting_is_told_once(tiny_model_folder: Path, tmp_path: Path) -> None:
    given = [*arguments(tiny_model_folder, tmp_path), "--data.batch_size=1"]
    code, screen = ended(started(given, tmp_path), tmp_path)
    assert code == 2, screen
    assert screen.count("data.batch_size must be at least the number of devices, 2, but is 1") == 1


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_all(tiny_model_folder: Path, tmp_path: Path) -> None:
    process = started(arguments(tiny_model_folder, tmp_path, rounds=10_000), tmp_path)
    wait_for(tmp_path / "run" / "last.ckpt")
    os.killpg(process.pid, signal.SIGINT)
    code, screen = ended(process, tmp_path)
    assert code == 1, screen
    assert screen.count("the same command with --ckpt_path last goes on") == 1
    assert "Traceback" not in screen


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "document", "term"])
def test_torchrun(fault: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    code, screen = ended(started(arguments(tiny_model_folder, tmp_path, fault), tmp_path, torchrun=True), tmp_path)
    assert (code == 0) == (fault == ""), screen
    assert saved_round(tmp_path) == {"": 4, "document": 1, "term": 2}[fault]
    assert len(errors(screen)) == (fault == "document")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
