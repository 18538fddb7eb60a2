"""`compare` and `score` in several processes on one store: the same files, nothing twice, nothing lost."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shared_runs import Run, kill, note_scoring, rows, start, wait_for, write_config

sys.path.append(str(Path(__file__).parent.parent / "benchmark"))
from hostile_server import HostileServer, hostile_server

ROOT = Path(__file__).parent.parent.parent
DONE = "done: another process has written the results"
TEXTS = [f"Article {i}. The ferry left at dawn with {31 + i} passengers and a goat. Snow fell." for i in range(12)]
SLOW = [text + " <<slow>>" for text in TEXTS]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as running:
        yield running


def endpoint(server: HostileServer, **settings: Any) -> dict[str, Any]:
    return {"class_path": "Endpoint", "init_args": {"base_url": server.url, "model": "m", "concurrency": 1, **settings}}


def local(model: Path) -> dict[str, Any]:
    prompt = {"instruction": "{document}\n{limit}\n", "close_tag": "U"}
    return {"class_path": "LocalModel", "init_args": {"base": str(model), "name": "local", "rows": 4, "prompt": prompt}}


def asked(server: HostileServer) -> Counter[str]:
    return Counter(request["messages"][-1]["content"] for request in server.requests)


def started(config: Path, count: int, *more: str, environment: list[dict[str, str]] | None = None) -> list[Run]:
    command = ["compare", "--config", str(config), *more]
    told = environment or [{} for _ in range(count)]
    return [start(command, config.parent, f"told{i}", told[i]) for i in range(count)]


def ended(runs: list[Run]) -> list[str]:
    ends = [run.end() for run in runs]
    assert [code for code, _ in ends] == [0] * len(ends), ends
    return [told for _, told in ends]


def one_tells(told: list[str]) -> None:
    """One has told of the results; and whoever came when all were gone, who has looked for itself."""
    assert all(("Budget 40%" in text) != text.endswith(DONE + "\n") for text in told)
    assert any("Budget 40%" in text for text in told)


def files(folder: Path) -> dict[str, bytes]:
    names = ("out/leaderboard.json", "out/results.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def test_two_processes_end_in_the_files_of_one(tiny_model_folder, tmp_path, server, monkeypatch) -> None:
    measured = note_scoring(monkeypatch, tmp_path, at_a_time=6)
    contenders = ["Opening", "Highlights", local(tiny_model_folder), endpoint(server)]
    made = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        config = write_config(folder, SLOW[:6], tiny_model_folder, contenders)
        runs = started(config, count, "--budgets", '["40%"]')
        told = ended(runs)
        one_tells(told)
        made[count] = files(folder)
        assert set(asked(server).values()) == {1}
        assert len(server.requests) == 6
        server.requests.clear()
    assert made[1] == made[2]
    assert set(measured().values()) == {2}  # in each of the two runs once


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_leaderboard_byte_for_byte(tiny_model_folder, tmp_path, server, count: int) -> None:
    """Processes of their own, with a report; the first, alone, is what the others are compared with."""
    contenders = ["Opening", "BestSentences", "Highlights", local(tiny_model_folder), endpoint(server, concurrency=2)]
    texts = [f"{text} {' '.join(f'More of it, number {i * j}.' for j in range(9))}" for i, text in enumerate(SLOW * 2)]
    made = []
    for number in (1, count):
        folder = tmp_path / f"with{len(made)}"
        config = write_config(folder, texts, tiny_model_folder, contenders, report=str(folder / "report"))
        command = [sys.executable, str(ROOT / "lightning_cli.py"), "compare", "--config", str(config)]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
        told = [run.communicate(timeout=500)[0] for run in runs]
        assert [run.returncode for run in runs] == [0] * number
        one_tells(told)
        made.append((folder / "report" / "leaderboard.csv").read_bytes())
        assert set(asked(server).values()) == {1}
        server.requests.clear()
    assert len(made[0].splitlines()) == 11
    assert made[0] == made[1]


@pytest.mark.slow
def test_torchrun(tiny_model_folder, tmp_path) -> None:
    config = write_config(tmp_path, TEXTS, tiny_model_folder, ["Opening", local(tiny_model_folder)])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--tee", "3", str(ROOT / "lightning_cli.py"), "compare", "--config", str(config)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    assert re.search(rf"\[default1\]:{DONE}", run.stdout)
    assert re.search(r"\[default0\]:.*Budget 40%", run.stdout)
    assert len(files(tmp_path)) == 2


def test_the_first_rank_writes(tiny_model_folder, tmp_path) -> None:
    config = write_config(tmp_path, TEXTS[:3], tiny_model_folder, ["Opening"])
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_RANK": str(rank)} for rank in (2, 1, 0)]
    told = ended(started(config, 3, environment=ranks))
    one_tells(told)
    assert len(files(tmp_path)) == 2


def trial(folder: Path, model: Path, server: HostileServer, draw: random.Random, scoring: bool, measured: Any) -> None:
    """Two processes, one of which is killed after so many answers or scores; the other one ends with all of it."""
    config = write_config(folder, SLOW, model, ["Opening", local(model), endpoint(server)])
    runs = started(config, 2, "--budgets", '["40%"]')
    table, most = ("scores", 30) if scoring else ("answers", 33)
    enough = draw.randrange(1, most)
    wait_for(lambda: rows(folder / "store.sqlite", table) >= enough, runs)
    time.sleep(draw.random() * 0.1)
    victim = draw.randrange(2)
    kill(runs.pop(victim))
    (told,) = ended(runs)
    assert "Budget 40%" in told or DONE in told


@pytest.mark.slow
@pytest.mark.parametrize("scoring", [False, True], ids=["asking", "scoring"])
def test_kills(tiny_model_folder, tmp_path, server, monkeypatch, scoring: bool) -> None:
    measured = note_scoring(monkeypatch, tmp_path, at_a_time=3, seconds=0.1)
    whole = write_config(
        tmp_path / "whole", SLOW, tiny_model_folder, ["Opening", local(tiny_model_folder), endpoint(server)]
    )
    ended(started(whole, 1, "--budgets", '["40%"]'))
    expected, all_measured = files(tmp_path / "whole"), measured()
    tried, twice = 20, 0
    for number in range(tried):
        server.requests.clear()
        (tmp_path / "measured.txt").unlink()
        folder = tmp_path / f"trial{number}"
        trial(folder, tiny_model_folder, server, random.Random(f"{scoring} {number}"), scoring, measured)
        assert files(folder) == expected
        # what the killed one was at may be done again, and nothing else
        requests, again = asked(server), measured()
        assert len(requests) == 12
        assert requests.total() <= 12 + 1
        assert again.keys() == all_measured.keys()
        assert again.total() - len(again) <= 3
        twice += requests.total() - 12 + again.total() - len(again)
    print(f"{tried} of {tried} kills survived; {twice} requests and scores were under way and done again")
