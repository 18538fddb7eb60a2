"""`compare` and `score` in several processes on one store: the same files, nothing twice, nothing lost."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_tools import run_cli
from shared_runs import Run, kill, note_scoring, rows, start, wait_for, write_config

sys.path.append(str(Path(__file__).parent.parent / "benchmark"))
from hostile_server import HostileServer, hostile_server
from postgres_server import PASSWORD, postgres_server

from squish_pl.benchmark import score_job
from squish_pl.benchmark.store import Store
from squish_pl.errors import ModelError

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


@pytest.mark.slow
def test_a_process_that_stands_still_is_not_waited_for(tiny_model_folder, tmp_path, server, monkeypatch) -> None:
    """Its lease runs out, as that of a machine that is gone; awake again, it ends with the others' results."""
    note_scoring(monkeypatch, tmp_path, at_a_time=3, seconds=0.1)
    config = write_config(tmp_path, SLOW, tiny_model_folder, ["Opening", endpoint(server)])
    runs = started(config, 2, "--lease", "2")
    wait_for(lambda: rows(tmp_path / "store.sqlite", "scores") >= 6, runs)
    still, other = runs
    still.signal(signal.SIGSTOP)
    (told,) = ended([other])
    assert "Budget 40%" in told
    before = files(tmp_path)
    still.signal(signal.SIGCONT)
    ended([still])
    assert files(tmp_path) == before


def test_an_error_in_one_process_ends_it_alone(tiny_model_folder, tmp_path, server, monkeypatch) -> None:
    note_scoring(monkeypatch, tmp_path, at_a_time=3, seconds=0.05)
    config = write_config(tmp_path, TEXTS, tiny_model_folder, ["Opening"], budgets=["40%"])
    measure = score_job._measure

    def broken(*arguments: Any) -> Any:
        if "SQUISH_TEST_BREAKS" in os.environ:
            raise ModelError("it broke here")
        return measure(*arguments)

    monkeypatch.setattr(score_job, "_measure", broken)
    breaks, sound = started(config, 2, environment=[{"SQUISH_TEST_BREAKS": "1"}, {}])
    code, told = breaks.end()
    (whole,) = ended([sound])
    assert "Budget 40%" in whole
    # it may have come too late to be given anything
    assert (code, "error: it broke here" in told) in ((2, True), (0, False))


def test_score_shares_a_store_that_goes_with_the_last_one(tiny_model_folder, tmp_path, monkeypatch) -> None:
    measured = note_scoring(monkeypatch, tmp_path, at_a_time=2, seconds=0.05)
    lines = [{"text": text} for text in TEXTS]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "ours.jsonl").write_text("\n".join(json.dumps({"summary": f"A goat, {i}."}) for i in range(12)))
    command = ["score", "--documents", "docs.jsonl", "--summaries", "ours.jsonl", "--budget", "40%", "--device", "cpu"]
    made = []
    for count in (1, 3):
        runs = [start([*command, "--base", str(tiny_model_folder)], tmp_path, f"told{i}") for i in range(count)]
        one_tells(ended(runs))
        made.append((tmp_path / "scores.jsonl").read_bytes())
        assert not (tmp_path / "scores.jsonl.sqlite").exists()
    assert made[0] == made[1]
    assert set(measured().values()) <= {2, 3}  # once in each, and once more by one that came when all were gone


def test_a_lease_that_makes_no_sense(tiny_model_folder, tmp_path, capsys) -> None:
    config = write_config(tmp_path, TEXTS, tiny_model_folder, ["Opening"])
    code, _, err = run_cli(["compare", "--config", str(config), "--lease", "0"], capsys)
    assert code == 2
    assert "lease must be a number of seconds, at least 1, but is 0.0" in err


@pytest.mark.parametrize("more", [["--print_config"], ["--budgets", "[a lot]"], ["--stores=postgresql://u:geheim@h/d"]])
def test_a_password_in_the_stores_address_is_shown_nowhere(tiny_model_folder, tmp_path, capsys, more) -> None:
    config = write_config(tmp_path, TEXTS, tiny_model_folder, ["Opening"])
    address = "postgresql://user:geheim@127.0.0.1:1/d"
    code, out, err = run_cli(["compare", "--config", str(config), "--store", address, *more], capsys)
    assert code == (0 if more == ["--print_config"] else 2)
    assert "geheim" not in out + err
    if not code:
        assert "store: postgresql://***@127.0.0.1:1/d" in out


@pytest.mark.slow
def test_kills_on_a_server(tiny_model_folder, tmp_path, server, monkeypatch) -> None:
    """Three processes on PostgreSQL, as three machines: one is killed, one stands still, the server is started anew."""
    note_scoring(monkeypatch, tmp_path, at_a_time=3, seconds=0.1)
    contenders = ["Opening", local(tiny_model_folder), endpoint(server)]
    whole = write_config(tmp_path / "whole", SLOW, tiny_model_folder, contenders)
    ended(started(whole, 1, "--budgets", '["40%"]'))
    expected, tried = files(tmp_path / "whole"), 6
    with postgres_server() as database:
        for number in range(tried):
            draw = random.Random(number)
            folder, address = tmp_path / f"trial{number}", database.new_database(f"trial{number}")
            server.requests.clear()
            config = write_config(folder, SLOW, tiny_model_folder, contenders, store=address)
            runs = started(config, 3, "--budgets", '["40%"]', "--lease", "2")
            with Store(address) as store:
                table, most = draw.choice([("answers", 33), ("scores", 30)])
                enough, query = draw.randrange(1, most), f"SELECT count(*) FROM {table}"
                wait_for(lambda: store.database.read(query)[0][0] >= enough, runs)  # noqa: B023
            kill(runs.pop(draw.randrange(3)))
            still = runs.pop(draw.randrange(2))
            still.signal(signal.SIGSTOP)
            if number % 2:
                database.stop()
                database.start()
            ended(runs)
            assert files(folder) == expected
            still.signal(signal.SIGCONT)
            ended([still])
            assert files(folder) == expected
            assert server.requests
            assert asked(server).total() <= 12 + 2 + 2  # what two were at, and a task that waited in line in each
            assert PASSWORD not in "".join(path.read_text() for path in folder.glob("told*.txt"))
    print(
        f"{tried} of {tried} survived on a server: a kill, a process that stood still, and {tried // 2} crashes of it"
    )
