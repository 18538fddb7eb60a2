"""Summaries from a file: each goes to its document, and every mistake names its line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from squish_pl.benchmark.contenders.given import GivenSummaries, GivenText
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.data.filters import document_id
from squish_pl.errors import DataError
from squish_pl.types import Document

WHOLE = ["The ferry left. And more.", "Nobody slept. And more.", "東京 opened. And more."]
DOCUMENTS = [Document(text[:-10], document_id(text), f"http://x/{i}") for i, text in enumerate(WHOLE)]
BUDGETS = ("5%", "10%")
TASKS = [Task(document, budget, sample) for budget in BUDGETS for document in DOCUMENTS for sample in (0, 1)]


def file_of(folder: Path, *records: Any) -> str:
    path = folder / "sums.jsonl"
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def given(path: str, tasks: list[Task] = TASKS) -> dict[tuple[int, str, int], Answer]:
    """Answers by number of the document, budget and sample, whether or not the contender would be asked for them."""
    contender = GivenSummaries(path)
    contender.tasks(DOCUMENTS, BUDGETS)
    answers = dict(contender.summarise(tasks))
    assert list(answers) == tasks
    return {(DOCUMENTS.index(task.document), task.budget, task.sample): answers[task] for task in tasks}


def asked(
    path: str, documents: Sequence[Document] = DOCUMENTS, budgets: Sequence[str] = BUDGETS, strict: bool = False
) -> list[tuple[str, str, int, str | None]]:
    """The text, budget and sample of all that it is asked for, with the summary; None where there is none."""
    contender = GivenSummaries(path, strict=strict)
    answers = contender.summarise(contender.tasks(documents, budgets))
    return [(task.document.text, task.budget, task.sample, answer.summary) for task, answer in answers]


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
    assert GivenSummaries(path).tasks(DOCUMENTS, BUDGETS) == TASKS


def test_a_line_with_a_budget_comes_before_one_without(tmp_path: Path) -> None:
    name = {"id": DOCUMENTS[0].id}
    path = file_of(tmp_path, {"summary": "any", **name}, {"summary": "five", "budget": "5%", **name})
    assert summaries(path) == {(0, "5%", 0): "five", (0, "10%", 0): "any"}


def test_a_line_with_a_budget_takes_the_place_of_its_own_sample_alone(tmp_path: Path) -> None:
    name = {"id": DOCUMENTS[0].id}
    lines = [("any 0", None, 0), ("any 1", None, 1), ("five 1", "5%", 1)]
    path = file_of(tmp_path, *({"summary": s, "budget": b, "sample": n, **name} for s, b, n in lines))
    found = summaries(path)
    assert [found[0, budget, n] for budget in BUDGETS for n in (0, 1)] == ["any 0", "five 1", "any 0", "any 1"]


def test_null_is_unparsable_and_a_missing_document_fails(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"summary": None, "id": DOCUMENTS[1].id}, {"summary": "", "id": DOCUMENTS[0].id})
    answers = given(path)
    assert answers[1, "5%", 0].outcome is Outcome.UNPARSABLE
    assert answers[0, "5%", 0] == Answer(outcome=Outcome.WRITTEN, summary="")
    assert answers[2, "5%", 0].outcome is Outcome.FAILED
    assert answers[2, "5%", 0].reason == f"{path} has no summary for this document, budget and sample"
    assert answers[0, "5%", 1].outcome is Outcome.FAILED


def identity(folder: Path, *records: Any, documents: Sequence[Document] = DOCUMENTS, name: str | None = None) -> str:
    contender = GivenSummaries(file_of(folder, *records), name)
    contender.tasks(documents, BUDGETS)
    return contender.identity


def test_identity_is_which_summary_is_whose(tmp_path: Path) -> None:
    lines = [{"summary": "one"}, {"summary": "two"}, {"summary": "three"}]
    first = identity(tmp_path, *lines)
    assert "/" not in first
    by_id = [{**line, "id": document.id} for line, document in zip(lines, DOCUMENTS, strict=True)]
    by_url = [{**line, "url": document.url, "note": 1} for line, document in zip(lines, DOCUMENTS, strict=True)]
    assert identity(tmp_path, *lines, name="b") == identity(tmp_path, *by_id) == first
    assert identity(tmp_path, "", *by_url) == first
    assert identity(tmp_path, *by_id, documents=[*DOCUMENTS[::-1], Document("more", "m")]) == first
    others = [
        identity(tmp_path, *lines, documents=DOCUMENTS[::-1]),  # the same file, but of other documents
        identity(tmp_path, {"summary": "One"}, *lines[1:]),
        identity(tmp_path, {"summary": None}, *lines[1:]),
        identity(tmp_path, *({**line, "budget": "5%"} for line in lines)),
        identity(tmp_path, *({**line, "sample": 1} for line in lines)),
        identity(tmp_path, *by_id[:2]),
        identity(tmp_path, *by_id, documents=DOCUMENTS[:2]),
    ]
    assert len({first, *others}) == 7  # the last two say the same of the same


def test_the_identity_is_found_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contender = GivenSummaries(file_of(tmp_path, ONE))
    contender.tasks(DOCUMENTS, BUDGETS)
    monkeypatch.setattr("squish_pl.benchmark.contenders.given.text_hash", pytest.fail)
    assert contender.identity == contender.identity


def test_the_name_is_the_files_where_none_is_given(tmp_path: Path) -> None:
    assert GivenSummaries(str(tmp_path / "gpt.v2.jsonl")).name == "gpt.v2"
    assert GivenSummaries(str(tmp_path / "gpt.jsonl"), "own").name == "own"
    assert GivenSummaries.is_free


NAMED = [  # by the source's own field `id`
    Document("first", "0000000000000001", name="a"),
    Document("second", "0000000000000002", name="0"),
    Document("third", "0000000000000003", name="twice"),
    Document("fourth", "0000000000000004", name="twice"),
]


@pytest.mark.parametrize(
    ("written", "text"), [("a", "first"), (0, "second"), ("0", "second"), ("0000000000000004", "fourth")]
)
def test_an_id_is_the_sources_or_the_hash(tmp_path: Path, written: Any, text: str) -> None:
    path = file_of(tmp_path, {"summary": "s", "id": written})
    assert [found for found in asked(path, NAMED, ["5%"]) if found[3]] == [(text, "5%", 0, "s")]


def test_an_id_that_two_documents_have(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"summary": "s", "id": "a"}, {"summary": "s", "id": "twice"})
    with pytest.raises(DataError, match=r"line 2: two documents have the id 'twice': tell the documents by url or doc"):
        asked(path, NAMED)


def test_an_empty_id_names_nothing(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"summary": "s0", "id": "", "url": None}, {"summary": "s1", "id": None})
    assert [summary for *_, summary in asked(path, DOCUMENTS[:2], ["5%"])] == ["s0", "s1"]  # in order


def test_it_is_asked_for_what_it_has_and_once_for_what_it_has_not(tmp_path: Path) -> None:
    lines = [("s0", 0, None), ("s1", 0, 1), ("s2", 2, 3)]  # summary, document, sample
    path = file_of(tmp_path, *({"summary": s, "id": DOCUMENTS[d].id, "sample": n} for s, d, n in lines))
    first, second, third = (document.text for document in DOCUMENTS)
    assert asked(path, budgets=["5%"]) == [
        (first, "5%", 0, "s0"),
        (first, "5%", 1, "s1"),
        (second, "5%", 0, None),  # fails, so that the coverage tells of it
        (third, "5%", 3, "s2"),
    ]


def test_samples_of_a_budget_and_of_all_budgets_together(tmp_path: Path) -> None:
    name = {"id": DOCUMENTS[0].id}
    five = {"summary": "five", "budget": "5%", **name}
    path = file_of(tmp_path, {"summary": "any", **name}, {"summary": "second", "sample": 1, **name}, five)
    assert [found[1:] for found in asked(path, DOCUMENTS[:1])] == [
        ("5%", 0, "five"),
        ("5%", 1, "second"),
        ("10%", 0, "any"),
        ("10%", 1, "second"),
    ]


TWICE = [Document("one"), Document("two"), Document("one"), Document("one", url="other")]


def test_in_order_a_text_that_comes_again_has_further_samples(tmp_path: Path) -> None:
    path = file_of(tmp_path, *({"summary": f"s{i}"} for i in range(4)))
    for strict in (False, True):
        assert asked(path, TWICE, ["5%"], strict) == [
            ("one", "5%", 0, "s0"),
            ("one", "5%", 1, "s2"),
            ("one", "5%", 2, "s3"),
            ("two", "5%", 0, "s1"),
        ]


def test_in_order_samples_of_a_text_that_comes_again_are_numbered_on(tmp_path: Path) -> None:
    lines = [{"summary": f"document {i}, sample {n}", "sample": n} for i in range(3) for n in (0, 1)]
    assert asked(file_of(tmp_path, *lines), TWICE[:3], ["5%"]) == [
        ("one", "5%", 0, "document 0, sample 0"),
        ("one", "5%", 1, "document 0, sample 1"),
        ("one", "5%", 2, "document 2, sample 0"),
        ("one", "5%", 3, "document 2, sample 1"),
        ("two", "5%", 0, "document 1, sample 0"),
        ("two", "5%", 1, "document 1, sample 1"),
    ]


def test_in_order_each_budget_numbers_by_itself(tmp_path: Path) -> None:
    lines = [{"summary": f"{b} {i}", "budget": b} for i in range(3) for b in BUDGETS]
    assert asked(file_of(tmp_path, *lines), TWICE[:3]) == [
        ("one", "5%", 0, "5% 0"),
        ("one", "5%", 1, "5% 2"),
        ("two", "5%", 0, "5% 1"),
        ("one", "10%", 0, "10% 0"),
        ("one", "10%", 1, "10% 2"),
        ("two", "10%", 0, "10% 1"),
    ]


def test_named_lines_for_one_text_are_never_numbered(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"summary": "s0", "document": "one"}, {"summary": "s1", "document": "one"})
    with pytest.raises(DataError, match=r"line 2: line 1 is for the same document, .* number them with the field samp"):
        asked(path, TWICE)


def test_strict_wants_a_line_for_every_document(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"summary": "s", "id": "a"}, {"summary": None, "id": 0})
    with pytest.raises(DataError) as caught:
        asked(path, [*NAMED, NAMED[3]], strict=True)
    assert str(caught.value) == (
        f"{path} has no summary for 2 of 4 documents, such as 'twice' ('third'...): give each a line, with null where "
        "there is no summary, or leave those documents out"
    )
    assert asked(path, NAMED[:2], ["5%"], strict=True) == [("first", "5%", 0, "s"), ("second", "5%", 0, None)]


def test_strict_asks_only_for_budgets_that_a_document_has_lines_for(tmp_path: Path) -> None:
    lines = [("a", "5%"), ("a", "10%"), (0, "10%")]
    path = file_of(tmp_path, *({"summary": f"{name} {b}", "id": name, "budget": b} for name, b in lines))
    there = [("first", "5%", 0, "a 5%"), ("first", "10%", 0, "a 10%"), ("second", "10%", 0, "0 10%")]
    assert asked(path, NAMED[:2], strict=True) == there
    assert asked(path, NAMED[:2]) == [there[0], ("second", "5%", 0, None), *there[1:]]  # which fails


@pytest.mark.parametrize(
    ("field", "shown"),
    [("id", f"id {DOCUMENTS[2].id!r}"), ("url", "url 'http://x/2'"), ("document", f"text {WHOLE[2]!r}")],
)
def test_lines_of_documents_beyond_the_runs_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, shown: str
) -> None:
    names = [
        {"id": document.id, "url": document.url, "document": whole}[field]
        for document, whole in zip(DOCUMENTS, WHOLE, strict=True)
    ]
    path = file_of(tmp_path, *({"summary": f"s{i}", field: names[i], "sample": n} for n, i in [(0, 2), (0, 1), (1, 2)]))
    assert asked(path, DOCUMENTS[:2], ["5%"]) == [
        (DOCUMENTS[0].text, "5%", 0, None),
        (DOCUMENTS[1].text, "5%", 0, "s1"),
    ]
    message = f"{path}: passed over 2 of 3 lines, whose documents are not among these 2, such as the {shown}"
    assert caplog.messages == [message]
    for documents, strict in ((DOCUMENTS[:2], True), (DOCUMENTS[:1], False)):  # in the second case no line fits
        with pytest.raises(
            DataError, match=rf"line 1: none of the {len(documents)} documents has the {re.escape(shown)}"
        ):
            asked(path, documents, strict=strict)


def test_long_texts_of_documents_are_not_kept(tmp_path: Path) -> None:
    text = "A ferry left. " * 100
    contender = GivenSummaries(file_of(tmp_path, {"summary": "s", "document": text}))
    (task,) = contender.tasks([Document(text)], ["5%"])
    assert [answer.summary for _, answer in contender.summarise([task])] == ["s"]
    assert text[:100] not in str(vars(contender))


def test_lines_for_other_budgets_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [{"summary": "s", "budget": budget} for budget in ("5%", "20 %", "64 tokens", "20%") for _ in range(2)]
    lines = [{**line, "sample": i // 4} for i, line in enumerate(lines)]
    path = file_of(tmp_path, *lines)
    assert GivenSummaries(path).budgets == ["5%", "20%", "64 tokens"]
    asked(path, DOCUMENTS[:2])
    assert caplog.messages == [f"{path}: 6 lines are for budgets that are not asked for (20%, 64 tokens)"]
    caplog.clear()
    asked(path, DOCUMENTS[:2], ["64 tokens", "20%", "5%"])
    assert caplog.messages == []


def test_budgets_say_where_there_is_none(tmp_path: Path) -> None:
    name = {"id": DOCUMENTS[0].id}
    lines = [{"summary": "s", "budget": b, **name} for b in ("10 %", None, "5%", "10%")]
    assert GivenSummaries(file_of(tmp_path, *lines)).budgets == ["10%", None, "5%"]


def test_the_file_is_read_when_it_is_needed_and_once(tmp_path: Path) -> None:
    contender = GivenSummaries(str(tmp_path / "sums.jsonl"))
    file_of(tmp_path, ONE)
    assert contender.problems() == []
    file_of(tmp_path, "no JSON")
    assert contender.problems() == []
    assert contender.tasks(DOCUMENTS[:1], ["5%"]) == [Task(DOCUMENTS[0], "5%")]


def test_a_given_text_is_the_answer_to_everything() -> None:
    contender = GivenText("mine", "A summary. ")
    tasks = contender.tasks(DOCUMENTS[:1], BUDGETS)
    assert tasks == [Task(DOCUMENTS[0], "5%"), Task(DOCUMENTS[0], "10%")]
    answer = Answer(outcome=Outcome.WRITTEN, summary="A summary. ")
    assert list(contender.summarise(tasks)) == [(tasks[0], answer), (tasks[1], answer)]
    assert contender.is_free
    assert contender.problems() == []
    assert contender.identity == GivenText("other", "A summary. ").identity != GivenText("mine", "A summary.").identity


ID = DOCUMENTS[0].id
ONE = {"summary": "s", "id": ID}
IN_THE_FILE = {  # whatever the documents are
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
}
MISTAKES = {
    "unknown id": (
        [{**ONE, "id": "abc"}, "", {**ONE, "id": "def"}],
        r"line 1: none of the 3 documents has the id 'abc' \(where the documents have no field id, it is the hash of",
    ),
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
    "in order, sample 0 with and without a number": (
        [{"summary": "s"}] * 3 + [{"summary": "s", "sample": 0}] * 3,
        r"each of the 3 documents, but got 6 for budget any and sample 0; tell",
    ),
    "some named": ([ONE, {"summary": "s"}], r"each of the 3 documents, but got 2 for budget any and sample 0; tell"),
}


@pytest.mark.parametrize("mistake", IN_THE_FILE | MISTAKES)
def test_mistakes_name_their_line(tmp_path: Path, mistake: str) -> None:
    lines, message = (IN_THE_FILE | MISTAKES)[mistake]
    with pytest.raises(DataError, match=message):
        given(file_of(tmp_path, *lines))


@pytest.mark.parametrize("mistake", IN_THE_FILE)
def test_mistakes_in_the_file_show_before_there_are_documents(tmp_path: Path, mistake: str) -> None:
    lines, message = IN_THE_FILE[mistake]
    contender = GivenSummaries(file_of(tmp_path, *lines))
    (problem,) = contender.problems()
    assert re.search(message, problem)
    with pytest.raises(DataError, match=message):
        _ = contender.budgets


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_that_only_the_documents_show(tmp_path: Path, mistake: str) -> None:
    assert GivenSummaries(file_of(tmp_path, *MISTAKES[mistake][0])).problems() == []


def test_two_documents_of_one_name(tmp_path: Path) -> None:
    contender = GivenSummaries(file_of(tmp_path, {"summary": "s", "url": "same"}))
    documents = [Document(text, id=text, url="same") for text in ("one", "two")]
    with pytest.raises(DataError, match=r"line 1: two documents have the url 'same': tell the documents by id or doc"):
        contender.tasks(documents, ["5%"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes('{"summary": "café"}'.encode("latin-1"))
    reasons = {
        "latin.jsonl": "it is not UTF-8 text",
        "none.jsonl": "No such file or directory",
    }
    for name, reason in reasons.items():
        path = str(tmp_path / name)
        contender = GivenSummaries(path)
        assert contender.problems() == [f"cannot read {path!r}: {reason}"]
        with pytest.raises(DataError, match=f"cannot read .*: {reason}"):
            _ = contender.budgets
        with pytest.raises(DataError, match=f"cannot read .*: {reason}"):
            contender.tasks(DOCUMENTS, BUDGETS)


def test_a_file_without_permission() -> None:
    script = (
        "import os, sys\n"
        "from squish_pl.benchmark.contenders.given import GivenSummaries\n"
        "from squish_pl.errors import DataError\n"
        "if os.getuid() == 0:\n"  # nothing is forbidden to root
        "    os.setuid(65534)\n"
        "try:\n"
        "    GivenSummaries(sys.argv[1]).tasks([], ['5%'])\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(Path(folder), ONE)
        Path(path).chmod(0o000)
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", script, path]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out == f"cannot read {path!r}: Permission denied\n"


def run_folder(folder: Path, *lines: dict[str, Any]) -> Path:
    (folder / "my.run").mkdir()
    (folder / "my.run" / "results.json").write_text(json.dumps({"rounds": {}, "summaries": lines}))
    return folder / "my.run"


def test_a_training_run_by_its_folder_alone(tmp_path: Path) -> None:
    ids = [document.id for document in DOCUMENTS]
    written = [
        {"document": ids[0], "budget": "10%", "before": {"summary": "early"}, "after": {"summary": "One"}},
        {"document": ids[0], "budget": "5%", "before": None, "after": {"summary": None}},
        {"document": ids[1], "budget": "10%", "before": {"summary": "too"}, "after": {"summary": "Two"}},
    ]
    folder = run_folder(tmp_path, *written)
    found = {}
    for when in ("after", "before"):
        contender = GivenSummaries(str(folder), when=when)  # type: ignore[arg-type]
        assert contender.problems() == []
        tasks = contender.tasks(DOCUMENTS[:2], ["10%", "5%"])
        said = {(t.document.id, t.budget): a for t, a in contender.summarise(tasks)}
        found[contender.name] = {key: (a.outcome, a.summary) for key, a in said.items()}
    nothing = (Outcome.FAILED, None)
    assert found == {
        "my.run": {
            (ids[0], "10%"): (Outcome.WRITTEN, "One"),
            (ids[0], "5%"): (Outcome.UNPARSABLE, None),
            (ids[1], "10%"): (Outcome.WRITTEN, "Two"),
            (ids[1], "5%"): nothing,
        },
        "my.run, before": {
            (ids[0], "10%"): (Outcome.WRITTEN, "early"),
            (ids[0], "5%"): nothing,
            (ids[1], "10%"): (Outcome.WRITTEN, "too"),
            (ids[1], "5%"): nothing,
        },
    }


def test_a_folder_that_is_no_training_runs(tmp_path: Path) -> None:
    (problem,) = GivenSummaries(str(tmp_path)).problems()
    assert problem == f"the folder {tmp_path} is no training run's: it has no results.json"
    folder = run_folder(tmp_path, {"document": "x", "budget": "10%", "after": None})
    (problem,) = GivenSummaries(str(folder)).problems()
    assert "has no summaries of 'after'" in problem
    for damaged in ("[]", "{", '{"summaries": [1]}'):
        (folder / "results.json").write_text(damaged)
        (problem,) = GivenSummaries(str(folder)).problems()
        assert "is not what a training run writes" in problem
