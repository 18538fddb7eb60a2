import json

import pytest
from cli_tools import run_cli

from squish_pl.score import SquishScorer

TEXTS = [
    "The ferry left at dawn with 31 passengers and a goat.",
    "Snow fell on the pass all night, and the road was shut.",
]
SUMMARIES = ["A ferry.", None]


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
    assert "within budget: 2 of 4" in out
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
    files[1].write_text(json.dumps({"summary": "Snow.", "url": "u1", "budget": "8 chars"}))
    output = tmp_path / "scores.jsonl"
    code, _, err = run_cli([*arguments(files, tiny_model_folder), "--output", str(output)], capsys)
    assert code == 0, err
    (line,) = (json.loads(line) for line in output.read_text().splitlines())
    assert (line["url"], line["budget"], line["within_budget"]) == ("u1", "8 chars", True)


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        ('{"summary": "a"}', [], ["each of the 2 documents", "got 1"]),
        ('{"summary": 3}\n{"summary": "a"}', [], ["line 1", "expected"]),
        ("not json\n{}", [], ["line 1"]),
        ('{"summary": "a", "url": "u9"}', [], ["of no document", "u9"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--budget", "0%"], ["above zero"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--summaries", "none.jsonl"], ["none.jsonl"]),
        ('{"summary": "a"}\n{"summary": "b"}', ["--bugdet", "5%"], ["bugdet"]),
    ],
)
def test_mistakes_are_named(content, changes, words, files, tiny_model_folder, capsys):
    files[1].write_text(content)
    code, _, err = run_cli([*arguments(files, tiny_model_folder), *changes], capsys)
    assert code == 2
    assert "Traceback" not in err
    for word in words:
        assert word in err


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
