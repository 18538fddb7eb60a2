"""`meta` on a tiny model, through the real command line."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from cli_tools import run_cli
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.benchmark.correlation import spearman
from squish_pl.score.evidence import NEEDS
from squish_pl.score.measures.candidates import default_measures
from squish_pl.score.measures.copies import Novel
from squish_pl.score.measures.fair import Fair
from squish_pl.score.measures.savings import Squish
from squish_pl.score.measures.support import Support
from squish_pl.score.scorer import ScoreRequest, SquishScorer

TEXTS = {
    "a": "The ferry left at dawn with 31 passengers and a goat.",
    "b": "Snow fell on the pass all night, and the road was shut.",
    "c": "The quay was empty when the last boat came in from the island.",
}
SUMMARIES = ["A ferry left.", "Snow on the road.", "The boat", "Nothing was left on the quay at night", ""]


def ratings(path: Path, aspects: dict[str, int] = {"relevance": 7, "fluency": 5}, systems: bool = True) -> Path:
    lines = []
    for i, summary in enumerate(SUMMARIES):
        for j, (name, text) in enumerate(TEXTS.items()):
            scores = {aspect: (i * 3 + j * 2) % modulus for aspect, modulus in aspects.items()}
            line = {"document": name, "text": text, "summary": summary, "scores": scores}
            lines.append(line | ({"system": f"M{i}"} if systems else {}))
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def run(model: Path, files: str | Path, capsys, *more: str) -> tuple[int, str, str]:
    return run_cli(["meta", "--ratings", str(files), "--base", str(model), "--device", "cpu", *more], capsys)


def expected_within(model: Path, aspect: str) -> dict[str, float]:
    """Mean correlation in each document by a scorer of our own."""
    modulus = {"relevance": 7, "fluency": 5}[aspect]
    scorer = SquishScorer.from_pretrained(str(model))
    found: dict[str, list[float]] = {"fair": [], "squish": [], "novel 4": [], "support": []}
    for j, text in enumerate(TEXTS.values()):
        (evidence,) = scorer.evidence([ScoreRequest(text, SUMMARIES)], needs=NEEDS[:2])
        rated = torch.tensor([(i * 3 + j * 2) % modulus for i in range(5)], dtype=torch.float64)
        for measure in (Fair(), Squish(), Novel(), Support()):
            values = measure(evidence, [])
            there = ~values.isnan()
            found[measure.name].append(spearman(values[there], rated[there]))
    return {name: sum(values) / len(values) for name, values in found.items()}


def test_the_figures_are_the_scorers(tiny_model_folder, tmp_path, capsys) -> None:
    first = ratings(tmp_path / "one.jsonl")
    second = ratings(tmp_path / "two.jsonl", {"overall": 4}, systems=False)
    code, out, err = run(tiny_model_folder, f"{first},{second}", capsys, "--output", "out/meta.json")
    assert code == 0, err
    found = json.loads(Path("out/meta.json").read_text())
    assert found["default"] == "fair"
    scores = found["scores"]
    assert list(scores) == [measure.name for measure in default_measures()]
    assert list(scores["squish"]) == ["one.jsonl", "two.jsonl"]
    for aspect in ("relevance", "fluency"):
        for name, within in expected_within(tiny_model_folder, aspect).items():
            cell = scores[name]["one.jsonl"][aspect]
            assert set(cell) == {"within", "summary", "system", "partial"}
            assert cell["within"] == pytest.approx(within, abs=1e-9)
            low, high = found["intervals"][name]["one.jsonl"][aspect]["within"]
            assert low <= cell["within"] <= high
            assert f"{within:.2f} [{low:.2f}, {high:.2f}]" in out
    assert scores["squish"]["two.jsonl"]["overall"]["system"] is None
    assert "fair" not in found["ahead"]
    assert 0 < found["ahead"]["novel 4"]["one.jsonl"]["relevance"]["p"] <= 1
    assert "one.jsonl: 3 documents, 15 summaries" in out
    lines = list(csv.DictReader(Path("out/meta.csv").read_text().splitlines()))
    assert len(lines) == len(scores) * 3
    (line,) = [one for one in lines if (one["measure"], one["aspect"]) == ("support", "fluency")]
    assert float(line["within"]) == scores["support"]["one.jsonl"]["fluency"]["within"]
    assert line["summaries"] == "12"  # the empty ones have no likelihood


def test_stopped_work_goes_on_and_other_measures_cost_no_pass(tiny_model_folder, tmp_path, capsys, monkeypatch) -> None:
    file = ratings(tmp_path / "one.jsonl")
    code, whole, err = run(tiny_model_folder, file, capsys, "--store", "whole.sqlite", "--output", "whole.json")
    assert code == 0, err
    measured: list[int] = []
    evidence = SquishScorer.evidence

    def count(self, requests, *rest, **settings):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(len(requests))
        return evidence(self, requests, *rest, **settings)

    monkeypatch.setattr(SquishScorer, "evidence", count)
    code, _, err = run(tiny_model_folder, file, capsys)
    assert code == 130
    assert "goes on from there" in err
    assert not Path("meta.json").exists()
    measured.clear()
    code, out, err = run(tiny_model_folder, file, capsys)
    assert code == 0, err
    assert measured == [1]  # the third document alone
    assert json.loads(Path("meta.json").read_text()) == json.loads(Path("whole.json").read_text())
    assert out.replace("meta.", "whole.") == whole

    def refuse(*arguments, **settings):
        raise AssertionError("nothing is left to measure")

    monkeypatch.setattr("squish_pl.benchmark.meta_run.load_scorer", refuse)
    chosen = '[{"class_path": "Novel", "init_args": {"n": 2}}, Support]'
    code, out, err = run(tiny_model_folder, file, capsys, f"--measures={chosen}", "--output", "other.json")
    assert code == 0, err
    assert json.loads(Path("other.json").read_text())["default"] == "novel 2"
    # without likelihoods, those passes do too; a document that is cut is another one
    assert run(tiny_model_folder, file, capsys, "--measures=[Squish]")[0] == 0
    with pytest.raises(AssertionError, match="nothing is left"):
        run(tiny_model_folder, file, capsys, "--max_tokens", "20")
    with pytest.raises(AssertionError, match="nothing is left"):
        run(tiny_model_folder, file, capsys, "--template.support_frame", "<{document}>")


def test_the_report_has_the_same_figures(tiny_model_folder, tmp_path, capsys) -> None:
    file = ratings(tmp_path / "one.jsonl")
    code, out, err = run(tiny_model_folder, file, capsys, "--report", "report", "--measures=[Squish, Novel]")
    assert code == 0, err
    assert "report: report/index.html" in out
    page = Path("report/index.html").read_text(encoding="utf-8")
    scores = json.loads(Path("meta.json").read_text())["scores"]["squish"]["one.jsonl"]
    for cell in scores.values():
        for value in cell.values():
            assert f'<span class="mean">{value:.2f}</span>'.replace("-", "−") in page
    (tmp_path / "taken").write_text("")
    code, _, err = run(tiny_model_folder, file, capsys, "--report", str(tmp_path / "taken"))
    assert code == 2
    assert "report: expected a folder, but" in err


def test_first_documents_cut_short(tiny_model_folder, tmp_path, capsys) -> None:
    more = ("--max_documents", "1", "--max_tokens", "20", "--measures=[Squish]", "--output", "m.json")
    code, _, err = run(tiny_model_folder, ratings(tmp_path / "one.jsonl"), capsys, *more)
    assert code == 0, err
    found = json.loads(Path("m.json").read_text())
    (evidence,) = SquishScorer.from_pretrained(str(tiny_model_folder)).evidence(
        [ScoreRequest(TEXTS["a"][:20].rstrip(), SUMMARIES)]
    )
    rated = torch.tensor([i * 3 % 7 for i in range(5)], dtype=torch.float64)
    within = found["scores"]["squish"]["one.jsonl"]["relevance"]["within"]
    assert within == pytest.approx(spearman(Squish()(evidence, []), rated), abs=1e-9)
    assert found["facts"]["documents"] == {"one.jsonl": 1}


def test_measures_of_ones_own_and_sums(tiny_model_folder, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "my_measures.py").write_text(
        "import torch\n"
        "from squish_pl.score.measures import Measure\n\n\n"
        "class Brief(Measure):\n"
        "    def __init__(self, sign: float = -1.0) -> None:\n"
        "        self.sign = sign\n\n"
        "    def __call__(self, evidence, batch):\n"
        "        return self.sign * torch.tensor([len(ids) for ids in evidence.summary_ids], dtype=torch.float64)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    parts = [["squish_pl.score.measures.Squish", 1.0], [{"class_path": "my_measures.Brief"}, 0.5]]
    weighted = {"class_path": "squish_pl.score.measures.Weighted", "init_args": {"parts": parts}}
    chosen = json.dumps([{"class_path": "my_measures.Brief", "init_args": {"sign": 1.0}}, weighted])
    code, _, err = run(tiny_model_folder, ratings(tmp_path / "one.jsonl"), capsys, f"--measures={chosen}")
    assert code == 0, err
    found = json.loads(Path("meta.json").read_text())
    assert list(found["scores"]) == ["brief", "1 squish + 0.5 brief"]
    lengths = torch.tensor([len(summary) for summary in SUMMARIES], dtype=torch.float64)
    rhos = [
        spearman(lengths, torch.tensor([(i * 3 + j * 2) % 7 for i in range(5)], dtype=torch.float64)) for j in range(3)
    ]
    cell = found["scores"]["brief"]["one.jsonl"]["relevance"]
    assert cell["within"] == pytest.approx(sum(rhos) / 3)
    assert cell["partial"] is None  # it is the length, which is what is taken out
    assert math.isfinite(found["scores"]["1 squish + 0.5 brief"]["one.jsonl"]["relevance"]["within"])
    sys.modules.pop("my_measures", None)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--measures=[]"], "measures must name at least one"),
        (["--measures=[Squish, Squish]"], "measures: 2 are 'squish'"),
        (['--measures=[{"class_path": "Novel", "init_args": {"n": 0}}]'], "novel 0: n must be at least 1"),
        (["--measures=[Nonsense]"], "A measure has a class_path"),
        (["--max_documents", "0"], "max_documents must be at least 1, but is 0"),
        (["--max_tokens", "-2"], "max_tokens must be at least 1, but is -2"),
        (["--template.support_frame", "x"], "support_frame must hold {document} exactly once"),
        (["--output", "x.csv"], "output must be a JSON file"),
        (["--max_tokens", "4090"], ""),
        (["--ratings", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["--ratings", "a/r.jsonl,b/r.jsonl"], "2 files are called 'r.jsonl'"),
        (["--base", "./nowhere"], "there is no folder './nowhere'"),
    ],
)
def test_mistakes_are_one_message(more: list[str], words: str, tiny_model_folder, tmp_path, capsys) -> None:
    code, out, err = run(tiny_model_folder, ratings(tmp_path / "one.jsonl"), capsys, *more)
    assert code == (2 if words else 0), err
    assert words in err
    assert err.count("error:") == bool(words)
    assert "Traceback" not in out + err


def test_all_problems_are_told_together(tiny_model_folder, tmp_path, capsys) -> None:
    more = ["--max_documents", "0", "--measures=[]", "--output", "."]
    code, _, err = run(tiny_model_folder, ratings(tmp_path / "one.jsonl"), capsys, *more)
    assert code == 2
    assert "3 problems" in err


def test_a_document_too_long_is_told_before_anything_is_measured(tmp_path, capsys, monkeypatch) -> None:
    make_tiny_model("qwen3", context=128).save_pretrained(tmp_path / "short")
    make_byte_tokenizer().save_pretrained(tmp_path / "short")
    file = ratings(tmp_path / "one.jsonl")
    code, _, err = run(tmp_path / "short", file, capsys)
    assert code == 2
    assert "one.jsonl: the document 'c' takes" in err
    room = int(err.split("set max_tokens to ")[1].split()[0])
    assert run(tmp_path / "short", file, capsys, "--max_tokens", str(room))[0] == 0
    assert run(tmp_path / "short", file, capsys, "--max_tokens", str(room + 1))[0] == 2


def test_help_tells_the_settings(capsys) -> None:
    code, out, _ = run_cli(["meta", "--help"], capsys)
    assert code == 0
    for key in ("--ratings", "--measures", "--max_tokens", "--store", "--template.support_frame"):
        assert key in out
