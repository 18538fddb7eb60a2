"""`compare --config attacks.yaml` on the real command line, with a tiny model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from cli_tools import run_cli

from squish_pl import SquishScorer

ROOT = Path(__file__).parent.parent.parent
TEXTS = [
    f"Article {i} is out. The ferry left at dawn with {31 + i} passengers and the goat of Anna Holm on board. "
    "In Bergen it was held by Mayor Lund, who was late. Snow fell in Oslo until the evening."
    for i in range(3)
]
HIGHLIGHTS = ["", "The ferry is late.", "Holm was held in Oslo by Lund."]  # the first has none


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arguments(model: Path, folder: Path, *more: str, config: str = "attacks.yaml") -> list[str]:
    documents = folder / "docs.jsonl"
    lines = [{"text": text, "highlights": said} for text, said in zip(TEXTS, HIGHLIGHTS, strict=True)]
    documents.write_text("\n".join(map(json.dumps, lines)))
    references = json.dumps([{"base": str(model), "gguf_file": None, "name": "tiny"}])
    given = ["--documents", str(documents), "--references", references, "--device", "cpu", "--logs", "null"]
    return ["compare", "--config", config, *given, "--store", str(folder / "store.sqlite"), *more]


def test_all_attacks_with_everything_they_leave_behind(tiny_model_folder, tmp_path, capsys):
    budgets = '["20%", "60 tokens"]'
    more = ["--budgets", budgets, "--output", "results", "--report", "report", "--logs", "logs"]
    code, out, err = run_cli(arguments(tiny_model_folder, tmp_path, *more), capsys)
    assert code == 0, err
    assert "Resistance at 20%, reference tiny: share of documents on which highlights score above the attack" in out
    assert "mean over attacks" in out
    assert "(attack)" in out
    assert out.index("ranked by fair") < out.index("Resistance at")
    assert "results: results" in out
    configured = yaml.safe_load((ROOT / "configs" / "attacks.yaml").read_text())["contenders"]
    records = json.loads((tmp_path / "results" / "leaderboard.json").read_text())
    names = {record["contender"] for record in records if record["is_attack"]}
    assert len(names) == len(configured) - 1
    shares = json.loads((tmp_path / "results" / "resistance.json").read_text())
    assert {score: set(of) for score, of in shares.items()} == {"squish": names, "novel": names, "fair": names}
    # the figure is the scorer's own, where both have a summary: the last two documents
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder))
    wins = []
    for budget, length in (("20%", None), ("60 tokens", 60)):
        for text, said in list(zip(TEXTS, HIGHLIGHTS, strict=True))[1:]:
            opening = text[: length or int(0.2 * len(text))].rstrip()
            good, copied = (float(s) for s in scorer.score(text, [said, opening], budget).score)
            wins.append((good > copied) + 0.5 * (good == copied))
    assert shares["squish"]["copied opening"] == fmean(wins)
    with (tmp_path / "report" / "resistance.csv").open() as file:
        lines = [
            line for line in csv.DictReader(file) if (line["attack"], line["score"]) == ("copied opening", "squish")
        ]
    assert [line["budget"] for line in lines] == ["20%", "60 tokens"]
    assert fmean(float(line["share"]) for line in lines) == fmean(wins)
    assert {line["documents"] for line in lines} == {"2"}
    assert "| mean over attacks |" in (tmp_path / "report" / "leaderboard.md").read_text()
    assert "Resistance to attacks" in (tmp_path / "report" / "index.html").read_text()
    assert b"resistance" in b"".join(path.read_bytes() for path in (tmp_path / "logs").rglob("events.out.*"))
    written = [json.loads(line) for line in (tmp_path / "results" / "results.jsonl").read_text().splitlines()]
    assert all(line["within_budget"] for line in written if line["contender"] in names and line["squish"] is not None)
    missing = [line for line in written if line["contender"] == "negation added" and line["outcome"] == "failed"]
    assert {line["reason"] for line in missing} == {"the data has no highlights of this document"}


def test_nothing_of_it_without_attacks(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({"contenders": ["Opening", "Highlights"], "budgets": ["30%"]}))
    more = ["--output", "results", "--report", "report"]
    code, out, err = run_cli(arguments(tiny_model_folder, tmp_path, *more, config="plain.yaml"), capsys)
    assert code == 0, err
    assert "esistance" not in out
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"results.jsonl", "leaderboard.json"}
    assert not (tmp_path / "report" / "resistance.csv").exists()
    assert "esistance" not in (tmp_path / "report" / "leaderboard.md").read_text()
    assert 'id="resistance"' not in (tmp_path / "report" / "index.html").read_text()


def test_another_good_one_and_its_mistakes(tiny_model_folder, tmp_path, capsys):
    config = {"contenders": ["Opening", "LongWords"], "budgets": ["30%"]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    base = arguments(tiny_model_folder, tmp_path, config="own.yaml")
    code, out, err = run_cli([*base, "--good", "opening"], capsys)
    assert code == 0, err
    assert "documents on which opening score above" in out
    for wrong in ("highlights", "long words"):
        code, _, err = run_cli([*base, "--good", wrong], capsys)
        assert code == 2
        assert f"but '{wrong}' is none: there are 'opening'" in " ".join(err.split())


def test_documents_without_highlights_end_in_one_message(tiny_model_folder, tmp_path, capsys):
    documents = tmp_path / "plain.txt"
    documents.write_text("A whistle sounded at six. The yard had been silent for seven weeks. " * 8)
    code, out, err = run_cli([*arguments(tiny_model_folder, tmp_path), "--documents", str(documents)], capsys)
    assert code == 2
    assert f"no document of {documents} has a field `highlights`: take documents that have" in " ".join(err.split())
    assert not out


def test_an_output_that_is_a_file(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    code, _, err = run_cli(arguments(tiny_model_folder, tmp_path, "--output", "taken"), capsys)
    assert code == 2
    assert "output: expected a folder, but 'taken' is a file" in " ".join(err.split())
