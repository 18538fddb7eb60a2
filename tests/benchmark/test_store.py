"""The store: what was put is there, after a kill, beside another writer, and never under another template."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch

from squish_pl.benchmark.contenders import Contender
from squish_pl.benchmark.crew import Crew
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task, text_hash
from squish_pl.benchmark.sqlite_database import SqliteDatabase
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.errors import DataError
from squish_pl.score.evidence import Evidence
from squish_pl.types import Document

FORK = multiprocessing.get_context("fork")  # no store is open in this process when it forks


class Named(Contender):
    """A contender that is only a name and an identity."""

    def __init__(self, name: str = "a", identity: str = "one") -> None:
        super().__init__(name)
        self._identity = identity

    @property
    def identity(self) -> str:
        return self._identity

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        raise NotImplementedError


def task(number: int = 0, budget: str = "10%", sample: int = 0) -> Task:
    return Task(Document(f"text {number}"), budget, sample)


def written(summary: str) -> Answer:
    return Answer(outcome=Outcome.WRITTEN, summary=summary)


def failed(reason: str) -> Answer:
    return Answer(outcome=Outcome.FAILED, reason=reason)


SCORE = ScoreRecord(
    score=0.1 + 0.2, novel_score=-1e-17, within_budget=True, length_used=0.9, copied=1 / 3, information=123.4
)


def test_measures_are_kept_with_a_score_and_older_scores_have_none(tmp_path: Path) -> None:
    with_measures = dataclasses.replace(SCORE, measures={"0.5 squish + 1 support": 0.1 + 0.2, "support": math.nan})
    one, two = ScoreKey("d", "5%", "s"), ScoreKey("d", "5%", "t")
    with Store(tmp_path / "store.db") as store:
        store.put_scores("r", {one: with_measures, two: SCORE})
        store._database.execute("UPDATE scores SET score = replace(score, ', \"measures\": {}', '')")
        assert "measures" not in store._database.execute("SELECT score FROM scores WHERE summary = 't'").fetchone()[0]
        found = store.scores("r", [one, two])
    assert found[two] == SCORE
    assert found[one].measures["0.5 squish + 1 support"] == 0.1 + 0.2
    assert math.isnan(found[one].measures["support"])


def test_answers_come_back_as_they_were_put(tmp_path: Path) -> None:
    answer = Answer(
        outcome=Outcome.WRITTEN,
        summary="naïve 東京\n\x00'\"",
        complete=False,
        prompt_tokens=7,
        completion_tokens=3,
        cost=0.1,
        seconds=2.5,
    )
    with Store(tmp_path / "deep" / "store.db") as store:
        store.put_answers(Named(), [(task(), answer)])
    with Store(tmp_path / "deep" / "store.db") as store:
        assert store.answers(Named(), [task(), task(1)]) == {task(): answer}


def test_every_part_of_the_key_counts(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        store.put_answers(Named(), [(task(), written("x"))])
        others = [task(1), task(budget="5%"), task(sample=1)]
        assert store.answers(Named(), others) == {}
        assert store.answers(Named("b"), [task()]) == {}
        assert store.answers(Named(identity="two"), [task()]) == {}
        renamed = Task(Document("text 0", id="other", url="other", name="other", highlights="h"), "10%")
        assert store.answers(Named(), [renamed]) == {renamed: written("x")}  # the text is what counts


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (failed("busy"), failed("still busy"), failed("still busy")),
        (failed("busy"), written("x"), written("x")),
        (failed("busy"), Answer(outcome=Outcome.UNPARSABLE), Answer(outcome=Outcome.UNPARSABLE)),
        (written("x"), failed("busy"), written("x")),
        (written("x"), written("y"), written("x")),
        (Answer(outcome=Outcome.UNPARSABLE), written("y"), Answer(outcome=Outcome.UNPARSABLE)),
    ],
)
def test_only_failures_are_replaced(tmp_path: Path, first: Answer, second: Answer, kept: Answer) -> None:
    with Store(tmp_path / "store.db") as store:
        store.put_answers(Named(), [(task(), first)])
        store.put_answers(Named(), [(task(), second)])
        assert store.answers(Named(), [task()]) == {task(): kept}


def test_several_answers_are_put_one_after_the_other(tmp_path: Path) -> None:
    pairs = [
        (task(0), failed("busy")),
        (task(1), written("one")),
        (task(0), written("zero")),  # in the place of the failure before it
        (task(1), written("another")),  # which comes too late
    ]
    with Store(tmp_path / "store.db") as store:
        store.put_answers(Named(), iter(pairs))
        store.put_answers(Named(), [])
        known = {task(0): written("zero"), task(1): written("one")}
        assert store.answers(Named(), [task(i) for i in range(3)]) == known


def test_answers_are_put_together_or_not_at_all(tmp_path: Path) -> None:
    broken = Task(Document("text 1"), object())  # type: ignore[arg-type]
    with Store(tmp_path / "store.db") as store:
        with pytest.raises(sqlite3.Error):
            store.put_answers(Named(), [(task(), written("x")), (broken, written("y"))])
        assert store.answers(Named(), [task()]) == {}
        store.put_answers(Named(), [(task(), written("x"))])  # the store goes on
        assert store.answers(Named(), [task()]) == {task(): written("x")}


def test_failed_and_missing_answers_are_asked_again(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        store.put_answers(Named(), [(task(0), failed("busy"))])
        store.put_answers(Named(), [(task(1), Answer(outcome=Outcome.UNPARSABLE))])
        store.put_answers(Named(), [(task(2), written("x"))])
        assert store.open_tasks(Named(), [task(i) for i in range(4)]) == [task(0), task(3)]


def test_scores_come_back_bit_by_bit_and_never_under_another_reference(tmp_path: Path) -> None:
    key, other = ScoreKey.of(task(), "summary"), ScoreKey.of(task(), "another summary")
    ours = "base abc, squish-pl 0.2"
    odd = dataclasses.replace(SCORE, length_used=math.inf)
    with Store(tmp_path / "store.db") as store:
        store.put_scores(ours, {key: SCORE, other: odd})
        store.put_scores(ours, {key: odd})  # the first stays
        assert store.scores(ours, [key, other, ScoreKey.of(task(1), "summary")]) == {key: SCORE, other: odd}
        assert store.scores("base abd, squish-pl 0.2", [key, other]) == {}


def test_scores_are_put_together_or_not_at_all(tmp_path: Path) -> None:
    keys = [ScoreKey.of(task(), "one"), ScoreKey(object(), "10%", "two")]  # type: ignore[arg-type]
    with Store(tmp_path / "store.db") as store:
        with pytest.raises(sqlite3.Error):
            store.put_scores("r", dict.fromkeys(keys, SCORE))
        assert store.scores("r", keys[:1]) == {}
        store.put_scores("r", {keys[0]: SCORE})  # the store goes on


def test_savings_survive_to_three_digits(tmp_path: Path) -> None:
    key = ScoreKey.of(task(), "summary")
    saved = torch.tensor([0.1, -1 / 3, 12.345678, 100.06, 1e-4, 0.0, -2.5])
    with Store(tmp_path / "store.db") as store:
        store.put_scores("r", {key: SCORE}, {key: saved})
    with Store(tmp_path / "store.db") as store:
        (found,) = store.savings("r", key.document).values()
    # 11 bits each: 0.1 = 1638 / 2**14, 1/3 = 1365 / 2**12, 12.345678 = 1580 / 2**7, 100.06 = 1601 / 2**4
    assert found[:4].tolist() == [1638 / 2**14, -1365 / 2**12, 1580 / 2**7, 1601 / 2**4]
    assert found[4].item() == pytest.approx(1e-4, rel=2**-11)
    assert found[5:].tolist() == [0.0, -2.5]
    assert found.dtype == torch.float32


def test_savings_are_of_a_reference_a_document_and_a_summary(tmp_path: Path) -> None:
    def key(number: int, summary: str, budget: str = "10%") -> ScoreKey:
        return ScoreKey.of(task(number, budget), summary)

    one, two, third = (torch.tensor([value]) for value in (1.0, 2.0, 3.0))
    with Store(tmp_path / "store.db") as store:
        keys = [key(0, "a"), key(0, "b"), key(1, "a"), key(0, "c")]
        store.put_scores("r", dict.fromkeys(keys, SCORE), {keys[0]: one, keys[1]: two, keys[2]: third})
        assert store.savings("r", keys[0].document) == {text_hash("a"): one, text_hash("b"): two}
        assert store.savings("r", keys[2].document) == {text_hash("a"): third}
        documents = [key.document for key in keys]
        assert store.measured("r", documents) == {
            (text_hash(f"text {i}"), text_hash(s)) for i, s in ((0, "a"), (0, "b"), (1, "a"))
        }
        assert (store.savings("q", keys[0].document), store.measured("q", documents)) == ({}, set())
        assert store.savings("r", text_hash("text 2")) == {}
        # a budget does not change what is saved, and what is there stays
        other = key(0, "a", "5%")
        store.put_scores("r", {other: SCORE}, {other: third})
        assert store.savings("r", keys[0].document)[text_hash("a")] == one
        assert store.scores("r", [other]) == {other: SCORE}


def test_savings_may_come_after_the_scores_and_without_tokens(tmp_path: Path) -> None:
    key = ScoreKey.of(task(), "summary")
    with Store(tmp_path / "store.db") as store:
        store.put_scores("r", {key: SCORE})
        assert store.measured("r", [key.document]) == set()
        store.put_scores("r", {key: SCORE}, {key: torch.tensor([])})
        assert store.measured("r", [key.document]) == {(key.document, key.summary)}
        assert store.savings("r", key.document)[key.summary].shape == (0,)


def test_scores_and_savings_are_put_together_or_not_at_all(tmp_path: Path) -> None:
    key, broken = ScoreKey.of(task(), "one"), ScoreKey(object(), "10%", "two")  # type: ignore[arg-type]
    with Store(tmp_path / "store.db") as store:
        with pytest.raises(sqlite3.Error):
            store.put_scores("r", {key: SCORE}, dict.fromkeys([key, broken], torch.ones(3)))
        assert (store.scores("r", [key]), store.measured("r", [key.document])) == ({}, set())


def test_damaged_savings(tmp_path: Path) -> None:
    key = ScoreKey.of(task(), "summary")
    with Store(tmp_path / "store.db") as store:
        store.put_scores("r", {key: SCORE}, {key: torch.ones(3)})
    database = sqlite3.connect(tmp_path / "store.db")
    database.execute("UPDATE savings SET saved = substr(saved, 1, 5)")
    database.commit()
    database.close()
    message = r"the store .* is damaged .*: restore a copy, or save"
    with Store(tmp_path / "store.db") as store, pytest.raises(DataError, match=message):
        store.savings("r", key.document)


def _write_for_ever(path: Path, told: Path) -> None:
    """Puts answers one by one, and tells of each behind it."""
    with Store(path) as store, told.open("w") as file:
        for number in range(10**9):
            store.put_answers(Named(), [(task(number), written(f"summary {number} " * 50))])
            key = ScoreKey.of(task(number), "s")
            store.put_scores("r", {key: SCORE}, {key: torch.full((50,), float(number % 1000))})
            file.write(f"{number}\n")
            file.flush()


def test_a_killed_writer_loses_nothing_it_told_of(tmp_path: Path) -> None:
    path, told = tmp_path / "store.db", tmp_path / "told"
    for _ in range(2):  # the second one goes on in the file that the first left behind
        told.unlink(missing_ok=True)
        process = FORK.Process(target=_write_for_ever, args=(path, told))
        process.start()
        assert process.pid is not None
        deadline = time.monotonic() + 120
        while not (told.exists() and told.read_text().count("\n") > 20):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        count = told.read_text().count("\n")
        with Store(path) as store:
            answers = store.answers(Named(), [task(i) for i in range(count)])
            assert [a.summary for a in answers.values()] == [f"summary {i} " * 50 for i in range(count)]
            keys = [ScoreKey.of(task(i), "s") for i in range(count)]
            assert len(store.scores("r", keys)) == count
            saved = [store.savings("r", key.document)[key.summary] for key in keys]
            assert [s.tolist() for s in saved] == [[i % 1000] * 50 for i in range(count)]


def _write_some(path: Path, name: str, start: Barrier) -> None:
    start.wait(120)  # all of them open the new file at once
    with Store(path) as store:
        for number in range(40):
            store.put_answers(Named("shared"), [(task(number), written(name))])
            store.put_answers(Named(name), [(task(number), written(name))])
            store.put_scores(name, {ScoreKey.of(task(number), "s"): SCORE})


def test_writers_at_once_lose_nothing_and_keep_the_first(tmp_path: Path) -> None:
    path, names = tmp_path / "store.db", ["one", "two", "three"]
    start = FORK.Barrier(len(names))
    processes = [FORK.Process(target=_write_some, args=(path, name, start)) for name in names]
    for process in processes:
        process.start()
    with_first: dict[Task, Answer] = {}
    tasks = [task(i) for i in range(40)]
    while any(process.is_alive() for process in processes):
        if path.exists():
            with Store(path) as store:
                seen = store.answers(Named("shared"), tasks)
            assert with_first.items() <= seen.items()  # an answer never changes
            with_first = seen
        time.sleep(0.05)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with Store(path) as store:
        assert len(store.answers(Named("shared"), tasks)) == 40
        for name in names:
            assert store.answers(Named(name), tasks) == {t: written(name) for t in tasks}
            assert len(store.scores(name, [ScoreKey.of(t, "s") for t in tasks])) == 40


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("some notes, long enough to be no empty database " * 100)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"notes\.txt is no SQLite file"):
        Store(path)
    assert path.read_bytes() == before


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE mine (a)")
    database.close()
    with pytest.raises(DataError, match="is a database, but no store"):
        Store(path)


def test_a_store_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DataError, match=r"has the format 99, but this squish-pl .* reads 1: use the version"):
        Store(path)


@pytest.mark.parametrize("harm", ["cut", "overwritten", "answer"])
def test_a_damaged_file(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        for number in range(100):
            store.put_answers(Named(), [(task(number), written("summary " * 50))])
    content = path.read_bytes()
    if harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "overwritten":
        path.write_bytes(content[:8192] + b"\x07" * 8192 + content[16384:])
    else:
        path.write_bytes(content.replace(b'"outcome": "written"', b'"outcome": "wrotten"'))
    with pytest.raises(DataError, match=r"the store .* is damaged .*: restore a copy, or save"), Store(path) as store:
        store.answers(Named(), [task(i) for i in range(100)])


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot make the folder .*file/deep for the store: .*; name another path"):
        Store(tmp_path / "file" / "deep" / "store.db")
    with pytest.raises(DataError, match=r"cannot use the store .*: unable to open database file; see that its folder"):
        Store(tmp_path)


def test_a_folder_without_permission() -> None:
    script = (
        "import os, sys\n"
        "from squish_pl.benchmark.store import Store\n"
        "from squish_pl.errors import DataError\n"
        "if os.getuid() == 0:\n"  # nothing is forbidden to root
        "    os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        Store(path)\n"
        "    except DataError as error:\n"
        "        print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, whose parents only its owner may enter
        os.chmod(folder, 0o555)
        paths = [f"{folder}/store.db", f"{folder}/new/store.db"]
        command = [sys.executable, "-c", script, *paths]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"cannot use the store {paths[0]}: unable to open database file; see that its folder")
    assert lines[1].startswith(f"cannot make the folder {folder}/new for the store: Permission denied; name another")


def test_a_store_that_is_held_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("squish_pl.benchmark.sqlite_database.PATIENCE", 0.1)
    with pytest.raises(DataError, match=r"database is locked; .* no other process holds the file"):
        Store(path)
    other.close()


def test_the_switch_to_the_log_waits_for_another_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN IMMEDIATE")  # as if another process wrote between our two steps of opening
    monkeypatch.setattr(SqliteDatabase, "_check_and_make", lambda self, tables: None)
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    with Store(path) as store:
        store.put_answers(Named(), [(task(), written("x"))])
    release.join()
    other.close()


def evidence_of(saved: float) -> Evidence:
    information = torch.tensor([1.0, 2.0], dtype=torch.float64)
    rows = torch.tensor([[saved, math.nan]], dtype=torch.float64)
    return Evidence((7, 8), information, rows, ((9,),), torch.tensor([True]))


def test_evidence_is_there_again_and_stays(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        assert store.evidence("r", "d", "s") is None
        store.put_evidence("r", "d", "s", evidence_of(0.1 + 0.2))
        store.put_evidence("r", "d", "s", evidence_of(9.0))
        store.put_evidence("other", "d", "s", evidence_of(5.0))
    with Store(tmp_path / "s.sqlite") as store:
        found = store.evidence("r", "d", "s")
        assert found is not None
        assert found.saved[0, 0] == 0.1 + 0.2
        assert found.saved[0, 1].isnan()
        assert (found.document_ids, found.summary_ids) == ((7, 8), ((9,),))
        assert all(store.evidence(*key) is None for key in (("r", "d", "x"), ("r", "x", "s"), ("x", "d", "s")))


def test_a_store_from_before_evidence_gets_room_for_it(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.put_scores("r", {ScoreKey("d", "10%", "s"): SCORE})
    database = sqlite3.connect(path)
    database.execute("DROP TABLE evidence")
    database.commit()
    database.close()
    with Store(path) as store:
        store.put_evidence("r", "d", "s", evidence_of(1.0))
        assert store.evidence("r", "d", "s") is not None
        assert list(store.scores("r", [ScoreKey("d", "10%", "s")]).values()) == [SCORE]


def test_a_store_from_before_claims_gets_room_for_them(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    key = ScoreKey("d", "10%", "s")
    with Store(path) as store:
        store.put_scores("r", {key: SCORE})
        store.put_answers(Named(), [(task(), written("x"))])
    database = sqlite3.connect(path)
    for table in ("workers", "joined", "portions"):
        database.execute(f"DROP TABLE {table}")
    database.close()
    with Store(path) as store, Crew(store) as crew:
        crew.join_once("results")
        assert crew.once("results", lambda: None)
        assert store.scores("r", [key]) == {key: SCORE}
        assert store.answers(Named(), [task()]) == {task(): written("x")}


def test_a_file_is_removed_by_the_last_one_that_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    one, two = Store(path), Store(path)
    one.put_scores("r", {ScoreKey("d", "10%", "s"): SCORE})
    one.database.remove()
    assert len(two.scores("r", [ScoreKey("d", "10%", "s")])) == 1
    two.database.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_removed_while_it_is_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.sqlite"
    first, make, made = Store(path), SqliteDatabase._check_and_make, []

    def remove_before(self: SqliteDatabase, tables: Sequence[str]) -> None:
        if not made:
            first.database.remove()  # by another process, between our opening of the file and the first look at it
        made.append(make(self, tables))  # type: ignore[func-returns-value]

    monkeypatch.setattr(SqliteDatabase, "_check_and_make", remove_before)
    with Store(path) as store, Store(path) as other:
        store.put_scores("r", {ScoreKey("d", "10%", "s"): SCORE})
        assert len(other.scores("r", [ScoreKey("d", "10%", "s")])) == 1
    assert len(made) == 3


def test_damaged_evidence_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.put_evidence("r", "d", "s", evidence_of(1.0))
    database = sqlite3.connect(path)
    database.execute("UPDATE evidence SET evidence = ?", (b"nothing",))
    database.commit()
    database.close()
    with Store(path) as store, pytest.raises(DataError, match="is damaged"):
        store.evidence("r", "d", "s")
