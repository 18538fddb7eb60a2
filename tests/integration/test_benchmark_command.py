"""`validate --config benchmark.yaml` on the real command line: tables, resuming after a kill, one message a mistake."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tools import run_cli

sys.path.append(str(Path(__file__).parent.parent / "benchmark"))
from hostile_server import SUMMARY, HostileServer, hostile_server

from squish_pl import SquishScorer
from squish_pl.benchmark.store import Store
from squish_pl.lm.loading import BaseModel

ROOT = Path(__file__).parent.parent.parent
TEXTS = [
    f"Article {i}. The ferry left at dawn with {31 + i} passengers and a goat. <<slow>> Snow fell." for i in range(12)
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Any:
    with hostile_server() as running:
        yield running


def write_config(folder: Path, model: Path, contenders: list[Any], **settings: Any) -> Path:
    """A configuration with the documents beside it."""
    documents = folder / "docs.jsonl"
    if not documents.exists():
        lines = [{"text": text, "id": f"a{i}", "highlights": "A goat." if i else ""} for i, text in enumerate(TEXTS)]
        documents.write_text("\n".join(map(json.dumps, lines)))
    config = {
        "contenders": contenders,
        "documents": str(documents),
        "budgets": ["40%", "30 tokens"],
        "references": [{"base": str(model), "name": "tiny"}],
        "store": str(folder / "store.sqlite"),
        "logs": None,
        "device": "cpu",
        **settings,
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def endpoint(server: HostileServer, **settings: Any) -> dict[str, Any]:
    return {"class_path": "Endpoint", "init_args": {"base_url": server.url, "model": "m", "concurrency": 1, **settings}}


BASELINES = ["Opening", {"class_path": "Opening", "init_args": {"share": 0.5}}, "BestSentences", "Highlights"]


def asked(server: HostileServer) -> list[str]:
    """The documents that the server was asked to summarise, in order."""
    return [request["messages"][-1]["content"].split("Article ")[1].split(".")[0] for request in server.requests]


def test_a_whole_run_with_its_report(tiny_model_folder, tmp_path, server, capsys):
    config = write_config(tmp_path, tiny_model_folder, [*BASELINES, endpoint(server)], budgets=["40%"], max_documents=3)
    code, out, err = run_cli(["validate", "--config", str(config), "--report", "out", "--logs", "logs"], capsys)
    assert code == 0, err
    assert "Budget 40%, reference tiny, ranked by SQUISH" in out
    assert "highlights: 1 of 3 tasks failed" in out
    for name in ("index.html", "leaderboard.csv", "leaderboard.md", "results.jsonl"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert {path.suffix for path in (tmp_path / "out" / "charts").iterdir()} == {".png", ".svg"}
    assert list((tmp_path / "logs").rglob("events.out.*"))
    # the figures are the scorer's own
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder))
    with (tmp_path / "out" / "leaderboard.csv").open() as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"opening", "opening, 50%", "best sentences", "highlights", "m"}
    expected = [float(scorer.score(text, [SUMMARY], "40%").score[0]) for text in TEXTS[:3]]
    assert float(rows["m"]["squish"]) == pytest.approx(sum(expected) / 3, abs=1e-7)
    assert rows["highlights"]["documents"] == "2"
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    mine = [line for line in lines if line["contender"] == "m"]
    assert [line["id"] for line in mine] == ["a0", "a1", "a2"]
    assert [line["squish"] for line in mine] == pytest.approx(expected, abs=1e-7)


def test_a_second_run_asks_and_scores_nothing_again(tiny_model_folder, tmp_path, server, capsys, monkeypatch):
    config = write_config(tmp_path, tiny_model_folder, ["Opening", endpoint(server)], max_documents=3)
    code, first, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 0, err
    assert len(server.requests) == 6
    with Store(tmp_path / "store.sqlite") as store:
        before = store._database.execute("SELECT * FROM scores").fetchall()
    monkeypatch.setattr(BaseModel, "load", lambda *_: pytest.fail("nothing is left to score"))
    code, second, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 0, err
    assert len(server.requests) == 6
    assert second == first
    monkeypatch.undo()
    # another frame: scored anew, beside the old ones, and nobody is asked
    code, third, err = run_cli(["validate", "--config", str(config), "--score.template.frame", "{summary}\n"], capsys)
    assert code == 0, err
    assert len(server.requests) == 6
    with Store(tmp_path / "store.sqlite") as store:
        after = store._database.execute("SELECT * FROM scores").fetchall()
    assert len(after) == 2 * len(before)
    assert set(before) < set(after)
    assert third != first


def test_a_killed_run_goes_on(tiny_model_folder, tmp_path, server, capsys):
    config = write_config(tmp_path, tiny_model_folder, ["Opening", endpoint(server)], budgets=["40%"])
    command = [sys.executable, str(ROOT / "lightning_cli.py"), "validate", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(server.requests) < 6 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(server.requests) >= 6, process.stderr and process.stderr.read()
    database = sqlite3.connect(tmp_path / "store.sqlite")
    (stored,) = database.execute("SELECT count(*) FROM answers WHERE contender = 'm'").fetchone()
    database.close()
    before = asked(server)
    assert stored >= len(before) - 1 >= 5  # all but the one under way
    code, out, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 0, err
    again = asked(server)[len(before) :]
    assert sorted(before[:stored] + again, key=int) == [str(i) for i in range(len(TEXTS))]
    assert "100%" in out
    assert "failed" not in out


def test_failures_are_asked_again_and_never_count_as_zero(tiny_model_folder, tmp_path, server, capsys):
    lines = [{"text": text} for text in (TEXTS[0], TEXTS[1].replace("slow", "400 once"))]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = write_config(tmp_path, tiny_model_folder, [endpoint(server)], budgets=["40%"])
    code, out, err = run_cli(["validate", "--config", str(config), "--report", "out"], capsys)
    assert code == 0, err
    assert "m: 1 of 2 tasks failed" in out
    assert "HTTP 400: context too long" in out

    def standing() -> dict[str, str]:
        with (tmp_path / "out" / "leaderboard.csv").open() as file:
            (row,) = csv.DictReader(file)
        return row

    scorer = SquishScorer.from_pretrained(str(tiny_model_folder))
    scores = [float(scorer.score(line["text"], [SUMMARY], "40%").score[0]) for line in lines]
    assert float(standing()["squish"]) == pytest.approx(scores[0], abs=1e-7)
    assert standing()["coverage"] == "0.5"
    code, out, err = run_cli(["validate", "--config", str(config), "--report", "out"], capsys)
    assert code == 0, err
    assert "failed" not in out
    assert len(server.requests) == 3
    assert float(standing()["squish"]) == pytest.approx(sum(scores) / 2, abs=1e-7)


def test_several_references_and_their_mean(tiny_model_folder, tiny_llama_folder, tmp_path, capsys):
    references = [{"base": str(tiny_model_folder), "name": "a"}, {"base": str(tiny_llama_folder), "name": "b"}]
    config = write_config(tmp_path, tiny_model_folder, ["Opening"], references=references, max_documents=2)
    code, _, err = run_cli(["validate", "--config", str(config), "--report", "out"], capsys)
    assert code == 0, err
    with (tmp_path / "out" / "leaderboard.csv").open() as file:
        rows = {(row["budget"], row["reference"]): float(row["squish"]) for row in csv.DictReader(file)}
    # the store has all scores: another rule asks and scores nothing again
    code, out, err = run_cli(["validate", "--config", str(config), "--report", "min", "--rule", "min"], capsys)
    assert code == 0, err
    assert "scores under" not in err
    assert "reference min of references, ranked by SQUISH" in out
    with (tmp_path / "min" / "leaderboard.csv").open() as file:
        lowest = {row["budget"]: float(row["squish"]) for row in csv.DictReader(file) if row["reference"][:4] == "min "}
    with (tmp_path / "min" / "results.jsonl").open() as file:
        lines = [json.loads(line) for line in file]
    scorers = {n: SquishScorer.from_pretrained(str(f)) for n, f in (("a", tiny_model_folder), ("b", tiny_llama_folder))}
    for budget, length in (("40%", None), ("30 tokens", 30)):
        means = {}
        for name, scorer in scorers.items():
            openings = [text[: length or int(0.4 * len(text))].rstrip() for text in TEXTS[:2]]
            scores = [scorer.score(t, [o], budget).score[0] for t, o in zip(TEXTS[:2], openings, strict=True)]
            means[name] = float(sum(scores)) / 2
            assert rows[budget, name] == pytest.approx(means[name], abs=1e-7)
        assert rows[budget, "mean of references"] == pytest.approx(sum(means.values()) / 2, abs=1e-7)
        ids = sorted({line["id"] for line in lines})
        of_each = [[line["squish"] for line in lines if (line["budget"], line["id"]) == (budget, i)] for i in ids]
        assert [len(scores) for scores in of_each] == [2, 2]
        assert lowest[budget] == pytest.approx(sum(map(min, of_each)) / 2, abs=1e-15)


def test_the_originals_rules(tiny_model_folder, tmp_path, capsys):
    text = "x" * 100 + " The ferry left at dawn with 31 passengers and a goat, and nobody said a word about it all day."
    (tmp_path / "docs.jsonl").write_text("\n".join(json.dumps({"text": f"{i}{text}"}) for i in range(3)))
    limit = int(0.3 * len(f"0{text}"))
    summaries = ["y" * (limit + 1), "z" * 2 * limit, "w" * limit]
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps({"summary": s}) for s in summaries))
    given = {"class_path": "GivenSummaries", "init_args": {"path": "sums.jsonl"}}
    contenders = [given, "OriginalOpening"]
    config = write_config(tmp_path, tiny_model_folder, contenders, budgets=["30%"], original_rules=True)
    code, out, err = run_cli(["validate", "--config", str(config), "--report", "out"], capsys)
    assert code == 0, err
    assert "By the original's rules" in out
    assert "Left out at 30% (tiny): sums, 2 of 3 documents" in out  # one is much too long
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    given_lines, openings = lines[::2], lines[1::2]
    assert [line["within_budget"] for line in given_lines] == [True, False, True]
    assert [line["summary"] for line in openings] == [f"{i}{text}"[: int(0.7 * limit)] for i in range(3)]
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder))
    cut = "y" * int(0.7 * limit)
    assert lines[0]["squish"] == pytest.approx(float(scorer.score(f"0{text}", [cut], "30%").score[0]), abs=1e-7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (['--contenders=["Openin"]'], ["Openin", "LocalModel, Endpoint, GivenSummaries, Opening"]),
        (['--contenders=[{"class_path": "Opening", "init_args": {"shar": 1}}]'], ["shar", "not accepted"]),
        (['--contenders=["Opening", "Opening"]'], ["2 are called 'opening'"]),
        (["--contenders=[]"], ["contenders must name at least one"]),
        (["--budgets=[]"], ["budgets must name at least one"]),
        (['--budgets=["0%", "ten"]'], ["2 problems", "'0%'", "'ten'"]),
        (["--documents", "none.jsonl"], ["none.jsonl"]),
        (["--max_documents", "0"], ["max_documents must be at least 1"]),
        (['--references=[{"base": "./no/such"}]'], ["there is no folder './no/such'"]),
        (["--report", "docs.jsonl"], ["docs.jsonl' is a file"]),
        (['--contenders=[{"class_path": "Opening", "init_args": {"share": .nan}}]'], ["share must be above 0"]),
        (["--logs", "docs.jsonl/x"], ["logs", "docs.jsonl"]),
        (["--store", "docs.jsonl"], ["docs.jsonl is no SQLite file"]),
        (["--device", "cuda:9"], ["the device 'cuda:9' cannot be used"]),
        (["--bugdets=3"], ["bugdets"]),
        (["--score.novel_ngram", "0"], ["novel_ngram must be at least 1"]),
        (['--contenders=[{"class_path": "GivenSummaries", "init_args": {"path": "none.jsonl"}}]'], ["none.jsonl"]),
        (
            [
                '--contenders=[{"class_path": "Endpoint", "init_args": {"base_url": "http://127.0.0.1:1/v1", "model": '
                '"m", "key_variable": "SQUISH_NO_SUCH_KEY"}}]'
            ],
            ["contender 'm'", "SQUISH_NO_SUCH_KEY", "is not set"],
        ),
        (
            [
                '--contenders=[{"class_path": "Endpoint", "init_args": {"base_url": "http://127.0.0.1:1/v1", '
                '"model": "m"}}]'
            ],
            ["m: cannot reach http://127.0.0.1:1/v1", "start the server"],
        ),
    ],
)
def test_mistakes_are_one_message(changes, words, tiny_model_folder, tmp_path, capsys):
    config = write_config(tmp_path, tiny_model_folder, ["Opening"], max_documents=2)
    code, _, err = run_cli(["validate", "--config", str(config), *changes], capsys)
    assert code == 2
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("key", ["store", "documents", "budgets", "references", "rank_by", "min_characters"])
def test_null_where_there_must_be_something(key, tiny_model_folder, tmp_path, capsys):
    config = write_config(tmp_path, tiny_model_folder, ["Opening"], **{key: None})
    code, _, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 2
    assert f"{key} must not be null" in err
    assert "Traceback" not in err


def test_a_document_too_long_for_the_reference_is_found_before_anybody_is_asked(
    tiny_model_folder, tmp_path, server, capsys
):
    (tmp_path / "docs.jsonl").write_text(json.dumps({"text": "word " * 1000}))
    config = write_config(tmp_path, tiny_model_folder, [endpoint(server)])
    code, _, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 2
    assert "the longest document has 5000 tokens" in err
    assert "set max_tokens to" in err
    assert not server.requests
    allowed = err.split("set max_tokens to ")[1].split()[0]
    code, _, err = run_cli(["validate", "--config", str(config), "--max_tokens", allowed], capsys)
    assert code == 0, err


def test_absolute_budgets_leave_room_too(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "docs.jsonl").write_text(json.dumps({"text": "word " * 1000}))
    config = write_config(tmp_path, tiny_model_folder, ["Opening"], budgets=["1000 tokens"])
    code, _, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 2
    allowed = err.split("set max_tokens to ")[1].split()[0]
    assert 2900 < int(allowed) <= 4096 - 1000
    code, _, err = run_cli(["validate", "--config", str(config), "--max_tokens", allowed], capsys)
    assert code == 0, err


def test_a_summary_that_does_not_fit_leaves_the_others_scored(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "docs.jsonl").write_text("\n".join(json.dumps({"text": f"{i} " + "word " * 410}) for i in range(3)))
    # four bytes a character: within 25 % of the characters, and as long as the document in tokens
    summaries = ["A word.", "😀" * 512, "Word, word."]
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps({"summary": s}) for s in summaries))
    given = {"class_path": "GivenSummaries", "init_args": {"path": "sums.jsonl"}}
    config = write_config(tmp_path, tiny_model_folder, [given], budgets=["25%"])
    code, out, err = run_cli(["validate", "--config", str(config), "--report", "out"], capsys)
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [line["squish"] is None for line in lines] == [False, True, False]
    assert "too long for the reference" in lines[1]["reason"]
    assert "is not scored" in err
    assert "67%" in out  # the coverage


def test_a_budget_that_allows_nothing(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "docs.jsonl").write_text("\n".join(json.dumps({"text": "word " * n}) for n in (2, 100)))
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps({"summary": s}) for s in ("ab", "abcde")))
    given = {"class_path": "GivenSummaries", "init_args": {"path": "sums.jsonl"}}
    config = write_config(tmp_path, tiny_model_folder, [given, "Opening"], budgets=["2%"])
    code, _, err = run_cli(["validate", "--config", str(config), "--report", "out"], capsys)
    assert code == 0, err
    text = (tmp_path / "out" / "results.jsonl").read_text()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    mine = [line for line in lines if line["contender"] == "sums"]
    assert [line["length_used"] for line in mine] == [None, 0.5]
    assert [line["within_budget"] for line in mine] == [False, True]
    with (tmp_path / "out" / "leaderboard.csv").open() as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert float(rows["sums"]["length_used"]) == 0.5


def test_a_token_budget_added_later_asks_for_nothing_else(tiny_model_folder, tmp_path, server, capsys):
    config = write_config(tmp_path, tiny_model_folder, ["Opening", endpoint(server)], budgets=["40%"], max_documents=3)
    code, _, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 0, err
    assert len(server.requests) == 3
    code, _, err = run_cli(["validate", "--config", str(config), '--budgets=["40%", "30 tokens"]'], capsys)
    assert code == 0, err
    assert len(server.requests) == 6
    assert all("30 tokens" in request["messages"][-1]["content"] for request in server.requests[3:])


def test_a_token_budget_needs_one_vocabulary(tiny_model_folder, tiny_llama_folder, tmp_path, capsys):
    from tiny import make_byte_tokenizer

    other = make_byte_tokenizer()
    other.add_tokens(["ferry"])
    folder = tmp_path / "other"
    folder.mkdir()
    for file in tiny_llama_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    other.save_pretrained(folder)
    references = [{"base": str(tiny_model_folder), "name": "a"}, {"base": str(folder), "name": "b"}]
    config = write_config(tmp_path, tiny_model_folder, ["Opening"], references=references, max_documents=1)
    code, _, err = run_cli(["validate", "--config", str(config)], capsys)
    assert code == 2
    assert "these references count differently" in err
