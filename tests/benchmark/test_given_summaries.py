"""Summaries from a file: each goes to its document, and every mistake names its line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from squish_pl.benchmark.contenders.given import GivenSummaries
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.data.filters import document_id
from squish_pl.errors import DataError
from squish_pl.types import Document

WHOLE = ["The ferry left. And more.", "Nobody slept. And more.", "東京 opened. And more."]
DOCUMENTS = [Document(text[:-10], document_id(text), f"http://x/{i}") for i, text in enumerate(WHOLE)]
TASKS = [Task(document, budget, sample) for document in DOCUMENTS for budget in ("5%", "10%") for sample in (0, 1)]


def file_of(folder: Path, *records: Any) -> str:
    path = folder / "sums.jsonl"
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def given(path: str, tasks: list[Task] = TASKS) -> dict[tuple[int, str, int], Answer]:
    """Answers by number of the document, budget and sample."""
    contender = GivenSummaries("elsewhere", path)
    contender.prepare(TASKS)
    answers = dict(contender.summarise(tasks))
    assert list(answers) == tasks
    return {(DOCUMENTS.index(task.document), task.budget, task.sample): answers[task] for task in tasks}


def summaries(path: str) -> dict[tuple[int, str, int], str | None]:
    return {key: a.summary for key, a in given(path).items() if a.outcome is Outcome.WRITTEN}


@pytest.mark.parametrize(
    "naming",
    [
        lambda i: {"id": DOCUMENTS[i].id},
        lambda i: {"url": DOCUMENTS[i].url},
        lambda i: {"document": WHOLE[i]},  # before it was cut
        lambda i: {"document": DOCUMENTS[i].text},
        lambda i: {"id": DOCUMENTS[i].id, "url": "not looked at", "finish": "closed"},
    ],
)
def test_documents_by_name(tmp_path: Path, naming: Any) -> None:
    path = file_of(tmp_path, {"summary": "two", **naming(2)}, "", {"summary": "zero", **naming(0)})
    assert summaries(path) == {
        (2, "5%", 0): "two",
        (2, "10%", 0): "two",
        (0, "5%", 0): "zero",
        (0, "10%", 0): "zero",
    }


def test_documents_in_order(tmp_path: Path) -> None:
    path = file_of(tmp_path, *({"summary": f"s{i}"} for i in range(3)))
    assert summaries(path) == {(i, budget, 0): f"s{i}" for i in range(3) for budget in ("5%", "10%")}


def test_order_is_that_of_all_documents_not_of_those_still_to_do(tmp_path: Path) -> None:
    path = file_of(tmp_path, *({"summary": f"s{i}"} for i in range(3)))
    left = [task for task in TASKS if task.document == DOCUMENTS[2]]
    assert given(path, left)[2, "5%", 0].summary == "s2"


def test_order_within_each_budget_and_sample(tmp_path: Path) -> None:
    lines = [(i, budget, sample) for i in range(3) for budget in ("5 %", "10%") for sample in (0, 1)]
    path = file_of(tmp_path, *({"summary": f"{i} {b} {s}", "budget": b, "sample": s} for i, b, s in lines))
    assert summaries(path) == {(i, b.replace(" ", ""), s): f"{i} {b} {s}" for i, b, s in lines}
    assert GivenSummaries("x", path).samples == 2


def test_a_line_with_a_budget_comes_before_one_without(tmp_path: Path) -> None:
    name = {"id": DOCUMENTS[0].id}
    path = file_of(tmp_path, {"summary": "any", **name}, {"summary": "five", "budget": "5%", **name})
    assert summaries(path) == {(0, "5%", 0): "five", (0, "10%", 0): "any"}


def test_null_is_unparsable_and_a_missing_document_fails(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"summary": None, "id": DOCUMENTS[1].id}, {"summary": "", "id": DOCUMENTS[0].id})
    answers = given(path)
    assert answers[1, "5%", 0].outcome is Outcome.UNPARSABLE
    assert answers[0, "5%", 0] == Answer(outcome=Outcome.WRITTEN, summary="")
    assert answers[2, "5%", 0].outcome is Outcome.FAILED
    assert answers[2, "5%", 0].reason == f"{path} has no summary for this document, budget and sample"
    assert answers[0, "5%", 1].outcome is Outcome.FAILED


def test_identity_follows_the_file(tmp_path: Path) -> None:
    first = GivenSummaries("a", file_of(tmp_path, {"summary": "one"})).identity
    assert GivenSummaries("b", file_of(tmp_path, {"summary": "one"})).identity == first
    assert GivenSummaries("a", file_of(tmp_path, {"summary": "two"})).identity != first
    assert "/" not in first


ID = DOCUMENTS[0].id
ONE = {"summary": "s", "id": ID}
MISTAKES = {
    "malformed": ([ONE, "", '{"summary": '], r"sums\.jsonl line 3: expected {\"summary\""),
    "no summary": ([{"id": ID}], r"sums\.jsonl line 1: expected"),
    "empty": ([""], r"sums\.jsonl holds no summary: expected"),
    "bad budget": ([ONE, {**ONE, "budget": "ten"}], r"sums\.jsonl line 2: expected a budget such as .* got 'ten'"),
    "number as budget": (
        [{**ONE, "budget": 10}],
        r"sums\.jsonl line 1: expected a budget such as .*say what it counts",
    ),
    "bad sample": ([{**ONE, "sample": -1}], r"sums\.jsonl line 1: expected sample to be 0, 1, \.\.\., but got -1"),
    "sample as text": ([{**ONE, "sample": "1"}], r"sums\.jsonl line 1: expected sample to be .* got '1'"),
    "unknown id": ([ONE, "", {**ONE, "id": "abc"}], r"line 3: none of the 3 documents has the id 'abc' \(a document's"),
    "unknown url": ([{"summary": "s", "url": "u"}], r"line 1: none of the 3 documents has the url 'u'$"),
    "unknown text": ([{"summary": "s", "document": "t"}], r"line 1: none of the 3 documents has the text 't'$"),
    "duplicate": ([ONE, "", ONE], r"line 3: line 1 is for the same document, budget \(any\) and sample \(0\): leave"),
    "duplicate budget": (
        [{**ONE, "budget": "5%"}, {**ONE, "budget": "5.0 %"}],
        r"line 2: line 1 is for the same document, budget \(5%\) and sample \(0\)",
    ),
    "too few in order": (
        [{"summary": "s"}] * 2,
        r"sums\.jsonl: expected a summary for each of the 3 documents, but got 2 for budget any and sample 0; tell",
    ),
    "too many in order": ([{"summary": "s"}] * 4, r"each of the 3 documents, but got 4 for budget any"),
    "some named": ([ONE, {"summary": "s"}], r"each of the 3 documents, but got 2 for budget any and sample 0; tell"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_their_line(tmp_path: Path, mistake: str) -> None:
    lines, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        given(file_of(tmp_path, *lines))


def test_two_documents_of_one_name(tmp_path: Path) -> None:
    contender = GivenSummaries("x", file_of(tmp_path, {"summary": "s", "url": "same"}))
    tasks = [Task(Document(text, id=text, url="same"), "5%") for text in ("one", "two")]
    with pytest.raises(DataError, match=r"line 1: two documents have the url 'same': tell the documents by id or doc"):
        contender.prepare(tasks)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes('{"summary": "café"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"cannot read the summaries .*latin\.jsonl': it is not UTF-8 text"):
        GivenSummaries("x", str(tmp_path / "latin.jsonl"))
    with pytest.raises(DataError, match="No such file"):
        GivenSummaries("x", str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="Is a directory"):
        GivenSummaries("x", str(tmp_path))


def test_a_file_without_permission() -> None:
    script = (
        "import os, sys\n"
        "from squish_pl.benchmark.contenders.given import GivenSummaries\n"
        "from squish_pl.errors import DataError\n"
        "if os.getuid() == 0:\n"  # nothing is forbidden to root
        "    os.setuid(65534)\n"
        "try:\n"
        "    GivenSummaries('x', sys.argv[1])\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(Path(folder), ONE)
        Path(path).chmod(0o000)
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", script, path]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out == f"cannot read the summaries {path!r}: Permission denied\n"
