"""Claims by hand: two workers, a clock that the test sets, and both databases."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from postgres_server import PostgresServer, postgres_server

from squish_pl.benchmark.alive import here, is_gone
from squish_pl.benchmark.claims import Claims, Portion
from squish_pl.benchmark.store import Store

Make = Callable[..., Claims]
JOB = "job"


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


_numbers = count()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.sqlite")
    return request.getfixturevalue("server").new_database(f"claims{next(_numbers)}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(where: str, clock: Clock) -> Iterator[Make]:
    """Workers with a connection each, and leases of ten seconds."""
    with Store(where) as store:
        made: list[Claims] = []

        def one(worker: str, place: int = 0) -> Claims:
            made.append(Claims(store.database.twin(), worker, place, lease=10, clock=clock))
            return made[-1]

        yield one
        for claims in made:
            claims.database.close()


def in_pairs(items: list[int]) -> list[list[int]]:
    return [items[i : i + 2] for i in range(0, len(items), 2)]


def join(claims: Claims, *left: int) -> None:
    claims.join(JOB, lambda: left, in_pairs)


def items(portion: Portion | None) -> tuple[int, ...] | None:
    return None if portion is None else portion.items


def test_each_portion_is_taken_once_and_gone_when_it_is_done(make: Make) -> None:
    a, b = make("a"), make("b")
    join(a, 0, 1, 2, 3, 4)
    join(b)  # what is left is what the first one found
    first, second, third = a.take(JOB), b.take(JOB), a.take(JOB)
    assert [items(p) for p in (first, second, third)] == [(0, 1), (2, 3), (4,)]
    assert a.take(JOB) is b.take(JOB) is None
    assert a.left(JOB) == 5
    assert first is not None
    assert third is not None
    assert a.take(JOB, [first, third]) is None
    assert b.left(JOB) == 2


def test_jobs_do_not_mix(make: Make) -> None:
    a = make("a")
    join(a, 0)
    a.join("another", lambda: [7, 8], in_pairs)
    first, other = a.take(JOB), a.take("another")
    assert (items(first), items(other)) == ((0,), (7, 8))
    assert first is not None
    a.take(JOB, [first])
    assert (a.left(JOB), a.left("another")) == (0, 2)


def test_a_lease_that_runs_out(make: Make, clock: Clock) -> None:
    a, b = make("a"), make("b")
    join(a, 0, 1)
    join(b)
    taken = a.take(JOB)
    clock.now += 9.9
    assert b.take(JOB) is None
    a.renew()  # a sign of life: the ten seconds begin anew
    clock.now += 9.9
    assert b.take(JOB) is None
    clock.now += 0.2
    over = b.take(JOB)
    assert (items(taken), items(over)) == ((0, 1), (0, 1))
    assert over is not None
    assert b.take(JOB, [over]) is None
    assert a.left(JOB) == 0


def test_whoever_wakes_up_too_late_does_no_harm(make: Make, clock: Clock) -> None:
    a, b = make("a"), make("b")
    join(a, 0, 1, 2)
    join(b)
    late = a.take(JOB)
    clock.now += 11
    over = b.take(JOB)
    assert (items(late), items(over)) == ((0, 1), (0, 1))
    assert late is not None
    assert over is not None
    assert items(a.take(JOB, [late])) == (2,)  # done is done, and it goes on
    assert b.left(JOB) == 1
    assert b.take(JOB, [over]) is None
    assert b.left(JOB) == 1


def test_whoever_leaves_gives_back_at_once(make: Make) -> None:
    a, b = make("a"), make("b")
    join(a, 0, 1, 2)
    join(b)
    a.take(JOB)
    assert items(b.take(JOB)) == (2,)
    assert b.take(JOB) is None
    a.leave()
    assert items(b.take(JOB)) == (0, 1)


def test_what_a_dead_run_left_is_done_in_the_same_portions(make: Make, clock: Clock) -> None:
    a = make("a")
    join(a, 0, 1, 2, 3)
    first = a.take(JOB)
    assert first is not None
    a.take(JOB, [first])
    clock.now += 11
    b = make("b")
    # 1 has failed there and 5 is new; 2 and 3 stay together
    join(b, 1, 2, 3, 5)
    assert [items(b.take(JOB)) for _ in range(3)] == [(2, 3), (1, 5), None]


def test_whoever_joins_a_living_run_asks_for_nothing_again(make: Make) -> None:
    a, b = make("a"), make("b")
    join(a, 0)
    first = a.take(JOB)
    assert first is not None
    a.take(JOB, [first])
    b.join(JOB, lambda: pytest.fail("it is dealt out"), in_pairs)
    assert b.take(JOB) is None
    assert b.left(JOB) == 0
    a.leave()
    b.leave()
    join(c := make("c"), 0)  # the next run: 0 may have failed
    assert items(c.take(JOB)) == (0,)


def test_two_that_come_at_once_deal_out_one_of_their_deals(make: Make) -> None:
    a, b = make("a"), make("b")

    def left() -> list[int]:
        join(b, 0, 1, 2)  # b is faster, while a counts
        return [0, 1, 2]

    a.join(JOB, left, in_pairs)
    assert [items(claims.take(JOB)) for claims in (a, b, a)] == [(0, 1), (2,), None]


def test_a_claim_whose_answer_was_lost_is_given_again(make: Make) -> None:
    a = make("a")
    join(a, 0, 1, 2)
    a.take(JOB)
    a._mine.clear()  # as if the connection had broken before the answer came
    assert items(a.take(JOB)) == (0, 1)
    assert items(a.take(JOB)) == (2,)
    assert a.take(JOB) is None


def test_the_first_place_that_lives(make: Make, clock: Clock) -> None:
    a, b = make("a", place=0), make("b", place=1)
    join(b, 0)
    assert b.is_first(JOB)
    join(a)
    assert a.is_first(JOB)
    assert not b.is_first(JOB)
    clock.now += 9
    b.renew()
    clock.now += 2  # a has gone
    assert b.is_first(JOB)


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(make: Make) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    a, b = make(f"{here()} {gone.pid} x"), make("b")
    elsewhere, alive = make(f"elsewhere {gone.pid} x"), make(f"{here()} {os.getpid()} x")
    join(a, *range(8))
    for other in (elsewhere, alive):
        join(other)
    taken = [claims.take(JOB) for claims in (a, elsewhere, alive)]
    assert [items(p) for p in taken] == [(0, 1), (2, 3), (4, 5)]
    join(b)  # looks who is there
    assert [items(b.take(JOB)) for _ in range(3)] == [(0, 1), (6, 7), None]
    assert is_gone(gone.pid)
    assert not is_gone(os.getpid())


def test_many_at_once_take_each_portion_once(where: str) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        with Store(where) as store:
            claims = Claims(store.database, f"w{number}")
            claims.join(JOB, lambda: range(120), lambda left: [[item] for item in left])
            finished: list[Portion] = []
            while (portion := claims.take(JOB, finished)) is not None:
                done.extend(portion.items)
                finished = [portion]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(120))
    with Store(where) as store:
        assert Claims(store.database).left(JOB) == 0
