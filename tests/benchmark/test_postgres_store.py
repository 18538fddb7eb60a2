"""The store on a real PostgreSQL server: the same as in a file, through the server's own crash, no password told."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from postgres_server import PASSWORD, PostgresServer, postgres_server

from squish_pl.benchmark import postgres_database
from squish_pl.benchmark.contenders import Opening
from squish_pl.benchmark.postgres_database import PostgresDatabase, is_postgres
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.errors import DataError
from squish_pl.score.evidence import Evidence
from squish_pl.types import Document

needs_server = pytest.mark.slow
_numbers = count()
SCORE = ScoreRecord(
    score=0.1 + 0.2, novel_score=-1e-17, within_budget=True, length_used=0.9, copied=1 / 3, information=123.4
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.new_database(f"store{next(_numbers)}")


def task(number: int) -> Task:
    return Task(Document(f"text {number}"), "10%")


@needs_server
def test_everything_comes_back_as_it_was_put(address: str) -> None:
    odd = Answer(outcome=Outcome.WRITTEN, summary="naïve 東京 100 % ?\n\x00'\"", complete=False, cost=0.1)
    failed, contender = Answer(outcome=Outcome.FAILED, reason="busy"), Opening()
    key, other = ScoreKey("d", "5%", "s"), ScoreKey("d", "5%", "t")
    infinite = replace(SCORE, length_used=math.inf, measures={"fair": math.nan})
    row = torch.tensor([[0.1 + 0.2, math.nan]], dtype=torch.float64)
    evidence = Evidence((7, 8), torch.tensor([1.0, 2.0], dtype=torch.float64), row, ((9,),), torch.tensor([True]))
    for again in range(2):  # what is there stays, unless it failed
        with Store(address) as store:
            store.put_answers(contender, [(task(0), odd if not again else failed), (task(1), failed)])
            store.put_scores("r", {key: SCORE if not again else infinite, other: infinite}, {key: torch.tensor([0.5])})
            store.put_evidence("r", "d", "s", evidence)
    with Store(address) as store:
        assert store.answers(contender, [task(i) for i in range(3)]) == {task(0): odd, task(1): failed}
        assert store.open_tasks(contender, [task(i) for i in range(3)]) == [task(1), task(2)]
        found = store.scores("r", [key, other])
        assert (found[key], found[other].length_used) == (SCORE, math.inf)
        assert math.isnan(found[other].measures["fair"])
        assert store.savings("r", "d")["s"].tolist() == [0.5]
        assert store.measured("r", ["d", "e"]) == {("d", "s")}
        kept = store.evidence("r", "d", "s")
        assert kept is not None
        assert kept.saved[0, 0] == 0.1 + 0.2
        assert store.evidence("r", "d", "other") is None
        store.put_answers(contender, [(task(1), odd)])
        assert store.open_tasks(contender, [task(1)]) == []


@needs_server
def test_many_that_open_a_new_database_at_once(address: str) -> None:
    found: list[int] = []

    def work(number: int) -> None:
        with Store(address) as store:
            for i in range(20):  # each in another order
                keys = [ScoreKey("d", "5%", str((i + j * number) % 20)) for j in range(5)]
                store.put_scores("r", dict.fromkeys(keys, SCORE))
            found.append(len(store.scores("r", [ScoreKey("d", "5%", str(i)) for i in range(20)])))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [20, 20, 20, 20]


@needs_server
def test_a_server_that_is_started_anew_is_waited_for(server: PostgresServer, address: str) -> None:
    with Store(address) as store:
        store.put_scores("r", {ScoreKey("d", "5%", "one"): SCORE})
        server.stop()  # at once, as in a crash
        again = threading.Timer(1.0, server.start)
        again.start()
        store.put_scores("r", {ScoreKey("d", "5%", "two"): SCORE})
        again.join()
        assert len(store.scores("r", [ScoreKey("d", "5%", name) for name in ("one", "two")])) == 2


@needs_server
def test_a_connection_that_was_lost_long_after_its_work_began_is_made_again(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "PATIENCE", 5.0)
    database, other, tried = PostgresDatabase(address, []), PostgresDatabase(address, []), []

    def work() -> int:
        (mine,) = database.execute("SELECT pg_backend_pid()").fetchone()
        tried.append(mine)
        if len(tried) == 1:  # as a process that stood still, until the server lost its patience
            time.sleep(6)
            other.read("SELECT pg_terminate_backend(?)", (mine,))
        return int(database.execute("SELECT 7").fetchone()[0])

    assert database.exclusively(work) == 7
    assert len(tried) == 2
    for one in (database, other):
        one.close()


@needs_server
def test_what_is_wrong_is_told_without_the_password(
    server: PostgresServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "PATIENCE", 0.0)
    place, name = f"postgresql://127.0.0.1:{server.port}/", address.rpartition("/")[2]
    wrong = [
        (address.replace("geh", "GEH"), "password authentication failed"),
        (address + "_not_there", "does not exist"),
        (address.replace(str(server.port), "1"), "onnection"),
    ]
    for where, reason in wrong:
        with pytest.raises(DataError, match=reason) as error:
            Store(where)
        assert str(error.value).startswith("cannot use the store postgresql://127.0.0.1:")
        assert PASSWORD not in str(error.value)
        assert "eim" not in str(error.value)
        assert "tester" not in str(error.value)
    with Store(address) as store:
        assert store.database.name == place + name
        store._database.write(("UPDATE format SET number = ?", [(99,)]))
    with pytest.raises(DataError, match=r"has the format 99, but this squish-pl .* reads 1: use the version"):
        Store(address)


@needs_server
def test_damaged_evidence_is_one_message(address: str) -> None:
    with Store(address) as store:
        store._database.write(("INSERT INTO evidence VALUES ('r', 'd', 's', ?)", [(b"nothing",)]))
        with pytest.raises(DataError, match=r"the store postgresql://.* is damaged .*: restore a copy"):
            store.evidence("r", "d", "s")


def test_which_places_are_databases() -> None:
    assert all(map(is_postgres, ["postgresql://h/d", "postgres://u:p@h/d", "postgresql+psycopg:///d"]))
    assert not any(map(is_postgres, ["runs/store.sqlite", Path("postgresql"), "postgresql/store"]))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_database, "find_spec", lambda name: None if name == "psycopg" else object())
    message = r"a store on PostgreSQL needs psycopg: pip install 'squish-pl\[postgres\]', or name a file"
    with pytest.raises(DataError, match=message):
        PostgresDatabase("postgresql://u:secret@h/d")
