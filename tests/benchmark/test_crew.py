"""Several that share a store's work: each portion once, whoever fails on the way, and one that tells of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from squish_pl.benchmark import runner, score_job
from squish_pl.benchmark.compare import Comparison, compare, prepare
from squish_pl.benchmark.contenders import Contender, Opening
from squish_pl.benchmark.crew import Crew, Job, Place, Portions
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.benchmark.references import Reference, pick_device
from squish_pl.benchmark.store import Store
from squish_pl.errors import ModelError, SquishError
from squish_pl.types import Document


class Counted(Job):
    """Items one by one, with what is done to each."""

    def __init__(self, work: Callable[[int], None], items: int = 12, name: str = "counted") -> None:
        self.title = self.name = name
        self.do, self.items = work, items

    def left(self) -> range:
        return range(self.items)

    def deal(self, items: list[int]) -> list[list[int]]:
        return [[item] for item in items]

    def work(self, portions: Portions) -> None:
        for portion in portions:
            self.do(*portion.items)
            portions.done(portion)


def at_once(*work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(work)) as pool:
        for one in [pool.submit(one) for one in work]:
            one.result(120)


def test_two_share_every_job_and_wait_for_each_other(tmp_path: Path) -> None:
    done: list[tuple[str, str, int]] = []
    both_work = threading.Barrier(2)
    met = {"a": False, "b": False}
    counts = {}

    def work(name: str) -> Callable[[], None]:
        def do(job: str) -> Callable[[int], None]:
            def one(item: int) -> None:
                if not met[name]:
                    met[name] = True
                    both_work.wait(60)  # neither does it all
                done.append((name, job, item))

            return one

        def run() -> None:
            with Store(tmp_path / "s.sqlite") as store, Crew(store) as crew:
                crew.share([Counted(do(job), name=job) for job in ("first", "second")])
                counts[name] = len(done)

        return run

    at_once(work("a"), work("b"))
    assert sorted((job, item) for _, job, item in done) == [(j, i) for j in ("first", "second") for i in range(12)]
    assert {name for name, _, _ in done} == {"a", "b"}
    assert counts == {"a": 24, "b": 24}


def test_the_error_of_one_leaves_its_work_to_the_other(tmp_path: Path) -> None:
    done: list[int] = []
    has_failed, has_one = threading.Event(), threading.Event()

    def fails() -> None:
        def work(item: int) -> None:
            has_one.set()
            raise SquishError("it broke")

        with Store(tmp_path / "s.sqlite") as store, pytest.raises(SquishError, match="it broke"), Crew(store) as crew:
            crew.share([Counted(work)])
        has_failed.set()

    def goes_on() -> None:
        def work(item: int) -> None:
            has_failed.wait(60)
            done.append(item)

        has_one.wait(60)
        with Store(tmp_path / "s.sqlite") as store, Crew(store) as crew:
            crew.share([Counted(work)])

    at_once(fails, goes_on)
    assert sorted(done) == list(range(12))


def test_one_does_what_is_done_once(tmp_path: Path) -> None:
    told: list[str] = []
    did = {}
    all_here = threading.Barrier(3)

    def process(name: str, rank: int) -> Callable[[], None]:
        def run() -> None:
            with Store(tmp_path / "s.sqlite") as store, Crew(store, Place(rank)) as crew:
                crew.join_once("results")
                all_here.wait(60)
                did[name] = crew.once("results", lambda: told.append(name))

        return run

    at_once(process("c", 2), process("a", 0), process("b", 1))
    assert told == ["a"]
    assert did == {"a": True, "b": False, "c": False}


def test_results_that_one_cannot_write_are_written_by_another(tmp_path: Path) -> None:
    told: list[str] = []
    both_here = threading.Barrier(2)

    def fails() -> None:
        def work() -> None:
            raise SquishError("no space left")

        with Store(tmp_path / "s.sqlite") as store, Crew(store) as crew:
            crew.join_once("results")
            both_here.wait(60)
            with pytest.raises(SquishError, match="no space"):
                crew.once("results", work)

    def goes_on() -> None:
        with Store(tmp_path / "s.sqlite") as store, Crew(store, Place(1)) as crew:
            crew.join_once("results")
            both_here.wait(60)
            assert crew.once("results", lambda: told.append("here"))

    at_once(fails, goes_on)
    assert told == ["here"]


@pytest.mark.slow
def test_signs_of_life_keep_a_long_portion(tmp_path: Path) -> None:
    """Four leases long: without signs of life the other one would have it before."""
    done: list[str] = []
    has_one = threading.Event()

    def work(name: str) -> Callable[[], None]:
        def one(item: int) -> None:
            has_one.set()
            time.sleep(8)
            done.append(name)

        def run() -> None:
            if name == "b":
                has_one.wait(60)
            with Store(tmp_path / "s.sqlite") as store, Crew(store, lease=2) as crew:
                crew.share([Counted(one, items=1)])

        return run

    at_once(work("a"), work("b"))
    assert done == ["a"]


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "SLURM_PROCID": "7"}, 3),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, 2),
        ({"SLURM_ARRAY_TASK_ID": "11", "SLURM_ARRAY_TASK_MIN": "10"}, 1),
        ({"SLURM_ARRAY_TASK_ID": "11", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, 5),
        ({"RANK": "first"}, 0),
    ],
)
def test_places(environment: dict[str, str], rank: int) -> None:
    assert Place.of(environment) == Place(rank)


class Remembering(Contender):
    """Writes the document's first letters, and remembers whom it was asked by."""

    def __init__(self, name: str, asked: list[str], waits: threading.Barrier) -> None:
        super().__init__("remembering")
        self.who, self.asked, self.waits = name, asked, waits

    @property
    def identity(self) -> str:
        return "remembering"

    def portions(self, tasks: list[Task]) -> list[list[Task]]:  # type: ignore[override]
        return [[task] for task in tasks]

    def work_through(self, portions: Iterator[list[Task]]) -> Iterator[tuple[Task, Answer]]:  # type: ignore[override]
        for number, portion in enumerate(portions):
            if number == 0:
                self.waits.wait(60)
            yield from self.summarise(portion)

    def summarise(self, tasks: list[Task]) -> Iterator[tuple[Task, Answer]]:  # type: ignore[override]
        for task in tasks:
            self.asked.append(f"{self.who} {task.document.text}")
            yield task, Answer(outcome=Outcome.WRITTEN, summary=task.document.text[:9])


def test_two_that_compare_ask_once_and_find_the_same(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_job, "_SCORED_AT_A_TIME", 3)
    documents = [Document(f"Number {i}. The ferry left. {'Snow fell. ' * (i % 5)}") for i in range(10)]
    asked: list[str] = []
    found = {}

    def process(name: str, path: Path, waits: threading.Barrier) -> Callable[[], None]:
        def run() -> None:
            contenders = [Opening(), Remembering(name, asked, waits)]
            what = Comparison(contenders, [Reference(str(tiny_model_folder), name="tiny")], ["40%"])
            with Store(path) as store:
                rows = compare(what, prepare(what, documents, "here"), store, torch.device("cpu")).rows
            found[name] = [(row.answer and row.answer.summary, row.scores) for row in rows]

        return run

    process("alone", tmp_path / "one.sqlite", threading.Barrier(1))()
    assert len(asked) == 10
    asked.clear()
    both = threading.Barrier(2)
    at_once(process("a", tmp_path / "two.sqlite", both), process("b", tmp_path / "two.sqlite", both))
    assert {entry.split(" ", 1)[1] for entry in asked} == {document.text for document in documents}
    assert len(asked) == 10
    assert {entry[0] for entry in asked} == {"a", "b"}
    assert found["a"] == found["b"] == found["alone"]  # to the last digit


class Broken(Opening):
    """Breaks in the middle of its second portion."""

    is_free = False

    def portions(self, tasks: list[Task]) -> list[list[Task]]:  # type: ignore[override]
        return [tasks[:2], tasks[2:]]

    def write(self, task: Task, budget: object) -> str:
        if task.document.text == "e":
            raise ModelError("it broke")
        return task.document.text


def test_after_an_error_the_rest_alone_is_asked(tmp_path: Path) -> None:
    contender = Broken("b")
    tasks = contender.tasks([Document(text) for text in "abcdef"], ["100%"])
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(ModelError), Crew(store) as crew:
            runner.ask({contender: tasks}, store, crew)
        assert store.open_tasks(contender, tasks) == tasks[4:]
        contender = Opening("b")
        contender.__class__ = type("Broken", (Opening,), {"is_free": False})  # the same name in the store
        with Crew(store) as crew:
            runner.ask({contender: tasks}, store, crew)
        assert store.open_tasks(contender, tasks) == []


class Forgetful(Opening):
    def portions(self, tasks: list[Task]) -> list[list[Task]]:  # type: ignore[override]
        return [tasks[1:]]


def test_a_contender_that_deals_out_too_little(tmp_path: Path) -> None:
    contender = Forgetful()
    tasks = contender.tasks([Document("a"), Document("b")], ["10%"])
    message = "'opening' dealt out other tasks"
    with Store(tmp_path / "s.sqlite") as store, Crew(store) as crew, pytest.raises(SquishError, match=message):
        runner.ask({contender: tasks}, store, crew)


def test_free_contenders_are_dealt_out_by_whole_documents() -> None:
    contender = Opening()
    documents = [Document(f"{i}") for i in range(100)]
    tasks = contender.tasks(documents, ["1%", "2%", "5%"])
    dealt = contender.portions(tasks)
    assert [len(some) for some in dealt] == [258, 42]
    assert [len({task.document.text for task in some}) for some in dealt] == [86, 14]
    contender.is_free = False
    assert contender.portions(tasks) == [tasks]
    assert contender.portions([]) == []


@pytest.mark.parametrize(
    ("device", "environment", "picked"),
    [
        ("cuda", {"LOCAL_RANK": "1"}, "cuda:1"),
        ("cuda", {"LOCAL_RANK": "5"}, "cuda:1"),  # of two: more processes than devices
        ("cuda", {"SLURM_LOCALID": "1"}, "cuda:1"),
        ("cuda:0", {"LOCAL_RANK": "1"}, "cuda:0"),
        ("cuda", {}, "cuda"),
        ("cpu", {"LOCAL_RANK": "1"}, "cpu"),
    ],
)
def test_each_process_of_a_machine_takes_its_own_device(
    monkeypatch: pytest.MonkeyPatch, device: str, environment: dict[str, str], picked: str
) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *_, device: asked.append(device) or torch.zeros(0))
    pick_device(device, environment)
    assert asked == [picked]
