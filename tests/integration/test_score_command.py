import io
import json
from pathlib import Path

import pytest
from cli_tools import run_cli

from squish_pl.score.scorer import SquishScorer

TEXTS = [
    "The ferry left at dawn with 31 passengers and a goat.",
    "Snow fell on the pass all night, and the road was shut.",
]
SUMMARIES = ["A ferry.", None]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def files(tmp_path):
    documents, summaries = tmp_path / "docs.jsonl", tmp_path / "sums.jsonl"
    documents.write_text("\n".join(json.dumps({"text": text, "url": f"u{i}"}) for i, text in enumerate(TEXTS)))
    summaries.write_text("\n".join(json.dumps({"summary": summary}) for summary in SUMMARIES))
    return documents, summaries


def arguments(files, model):
    return ["score", "--documents", str(files[0]), "--summaries", str(files[1]), "--base", str(model)]


def test_scores_are_the_scorers(files, tiny_model_folder, tmp_path, capsys):
    output = tmp_path / "scores.jsonl"
    more = ["--budget", "20%,12 tokens", "--output", str(output), "--device", "cpu"]
    code, out, err = run_cli([*arguments(files, tiny_model_folder), *more], capsys)
    assert code == 0, err
    assert "Budget 20%, reference" in out
    assert "Budget 12 tokens, reference" in out
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder))
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["url"], line["budget"]) for line in lines] == [
        ("u0", "20%"),
        ("u0", "12 tokens"),
        ("u1", "20%"),
        ("u1", "12 tokens"),
    ]
    for line, text in zip(lines, [TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[1]], strict=True):
        expected = scorer.score(text, [line["summary"]], line["budget"])
        assert line["squish"] == pytest.approx(float(expected.score[0]), abs=1e-7)
        assert line["novel"] == pytest.approx(float(expected.novel_score[0]), abs=1e-7)
        assert line["information"] == pytest.approx(expected.information, rel=1e-6)
        assert line["lead"] != 0.0


def test_summaries_find_their_documents_by_url(files, tiny_model_folder, tmp_path, capsys):
    lines = [{"summary": "Snow.", "url": "u1", "budget": "8 chars"}, {"summary": "Goat.", "url": "u0"}]
    files[1].write_text("\n".join(map(json.dumps, lines)))
    output = tmp_path / "scores.jsonl"
    code, _, err = run_cli([*arguments(files, tiny_model_folder), "--output", str(output)], capsys)
    assert code == 0, err
    found = {(line["url"], line["budget"]): line for line in map(json.loads, output.read_text().splitlines())}
    assert found["u1", "8 chars"]["within_budget"] is True
    assert found["u1", "8 chars"]["summary"] == "Snow."
    assert found["u0", "10%"]["summary"] == "Goat."
    assert ("u1", "10%") not in found  # it names a budget of its own


def test_two_texts_are_compared(tiny_model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "b.txt").write_text("A ferry.")
    (tmp_path / "c.txt").write_text("A goat\n")
    texts = ["--document", "a.txt", "--summary", "b.txt,c.txt", "--budget", "20%", "--base", str(tiny_model_folder)]
    code, out, err = run_cli(["score", *texts, "--device", "cpu"], capsys)
    assert code == 0, err
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder))
    scores = scorer.score(TEXTS[0], ["A ferry.", "A goat"], "20%").score
    for name, score in zip("bc", scores, strict=True):
        assert any(line.split()[1:3] == [name, f"{float(score):.4f}"] for line in out.splitlines() if line.strip())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.txt",
        "b.txt",
        "c.txt",
        "work",
    ]  # nothing is left behind


def test_pasted_texts(tiny_model_folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXTS[0].encode())))
    texts = ["--document", "-", "--summary", "# A ferry, a goat.", "--budget", "50%", "--base", str(tiny_model_folder)]
    code, out, err = run_cli(["score", *texts, "--device", "cpu"], capsys)
    assert code == 0, err
    assert "document: 53 characters from standard input; summary: 18 characters from the command line\n" in out
    [score] = SquishScorer.from_pretrained(str(tiny_model_folder)).score(TEXTS[0], ["# A ferry, a goat."], "50%").score
    assert any(line.split()[1:3] == ["summary", f"{float(score):.4f}"] for line in out.splitlines() if line.strip())
    assert not list(Path.cwd().iterdir())  # nothing is left behind


@pytest.mark.parametrize(
    ("document", "summary", "words"),
    [
        ("-", "-", ["cannot both come from standard input"]),
        ("none.txt", "A ferry.", ["no file 'none.txt'", "document itself", "text:"]),
        (TEXTS[0], "ferry.txt", ["no file 'ferry.txt'", "summary itself", "text:"]),
        ("-", "A ferry.", ["standard input is empty"]),
        (TEXTS[0], "", ["two texts"]),
    ],
)
def test_pasted_mistakes(document, summary, words, tiny_model_folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    given = ["--document", document, "--summary", summary, "--base", str(tiny_model_folder)]
    code, out, err = run_cli(["score", *given], capsys)
    assert code == 2
    assert "Traceback" not in out + err
    for word in words:
        assert word in err


def test_a_document_that_comes_twice(files, tiny_model_folder, tmp_path, capsys):
    files[0].write_text("\n".join(json.dumps({"text": text}) for text in (TEXTS[0], TEXTS[1], TEXTS[0])))
    files[1].write_text("\n".join(json.dumps({"summary": summary}) for summary in ("A", "S", "B")))
    output = tmp_path / "scores.jsonl"
    code, _, err = run_cli([*arguments(files, tiny_model_folder), "--output", str(output)], capsys)
    assert code == 0, err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["summary"], line["sample"]) for line in lines] == [("A", 0), ("B", 1), ("S", 0)]


def test_stopped_work_goes_on(files, tiny_model_folder, tmp_path, capsys, monkeypatch):
    texts = [f"{i} {TEXTS[0]}" for i in range(200)]
    files[0].write_text("\n".join(json.dumps({"text": text}) for text in texts))
    files[1].write_text("\n".join(json.dumps({"summary": f"{i} goats"}) for i in range(200)))
    output = tmp_path / "out.jsonl"
    scored = []

    def summaries(requests):
        return sum(len(request.summaries) for request in requests)

    whole = SquishScorer.score_batch

    def count(self, requests, *rest):
        if sum(scored) >= 256:
            raise KeyboardInterrupt
        scored.append(summaries(requests))
        return whole(self, requests, *rest)

    monkeypatch.setattr(SquishScorer, "score_batch", count)
    command = [*arguments(files, tiny_model_folder), "--output", str(output)]
    code, _, err = run_cli(command, capsys)
    assert code == 130
    assert "the same command goes on from there" in err
    assert not output.exists()
    done, scored[:] = sum(scored), []
    monkeypatch.setattr(SquishScorer, "score_batch", lambda s, r, *x: (scored.append(summaries(r)), whole(s, r, *x))[1])
    code, _, err = run_cli(command, capsys)
    assert code == 0, err
    assert done + sum(scored) == 400  # each summary and each opening once
    assert len(output.read_text().splitlines()) == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs.jsonl", "out.jsonl", "sums.jsonl", "work"]


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        ('{"summary": "a"}', [], ["each of the 2 documents", "got 1"]),
        ('{"summary": 3}\n{"summary": "a"}', [], ["line 1", "expected"]),
        ("not json\n{}", [], ["line 1"]),
        ('{"summary": "a", "url": "u9"}', [], ["line 1", "none of the 2 documents has the url 'u9'"]),
        ('{"summary": "a", "url": "u1"}', [], ["no summary for 1 of 2 documents", "'u0'", "null"]),
        ('{"summary": "a", "url": "u1"}\n{"summary": "b", "url": "u1"}', [], ["line 2", "line 1 is for the same"]),
        ("", [], ["sums.jsonl holds no summary"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--document", "a.txt"], ["give --documents and --summaries"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--report", "/proc/x"], ["/proc"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--budget", "0%"], ["above zero"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--summaries", "none.jsonl"], ["none.jsonl"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--bugdet", "5%"], ["bugdet"]),
    ],
)
def test_mistakes_are_named(content, changes, words, files, tiny_model_folder, tmp_path, capsys):
    files[1].write_text(content)
    code, _, err = run_cli([*arguments(files, tiny_model_folder), *changes], capsys)
    assert code == 2
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert not list(tmp_path.rglob("*.sqlite*"))


def test_two_documents_of_one_url_are_not_mixed_up(files, tiny_model_folder, capsys):
    files[0].write_text("\n".join(json.dumps({"text": text, "url": "same"}) for text in TEXTS))
    files[1].write_text("\n".join(json.dumps({"summary": "a", "url": "same"}) for _ in TEXTS))
    code, _, err = run_cli(arguments(files, tiny_model_folder), capsys)
    assert code == 2
    assert "two documents have the url 'same'" in err


def test_half_a_surrogate_pair_is_read_as_a_question_mark(files, tiny_model_folder, tmp_path, capsys):
    files[0].write_text('{"text": "Half \\ud83d of it, and some more words."}')
    files[1].write_text('{"summary": "\\ud83d x"}')
    output = tmp_path / "out.jsonl"
    code, _, err = run_cli([*arguments(files, tiny_model_folder), "--output", str(output)], capsys)
    assert code == 0, err
    assert json.loads(output.read_text())["summary"] == "? x"
