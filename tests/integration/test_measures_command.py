"""`compare` and `score` with measures on the real command line, with a tiny model."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from cli_tools import run_cli

from squish_pl import SquishScorer
from squish_pl.score.measures import Positive, Squish, Support, Weighted

TEXTS = [
    "The ferry left at dawn with 31 passengers and a goat on board. Nobody slept at all.",
    "Snow fell on the pass all night, and the road was shut until the evening.",
    "Another harbour council voted on Tuesday. The hall will be a museum of the sea.",
]
SUMMARIES = ["A ferry left.", "Snow, far longer than its budget allows: all night, all day.", None]
MEASURES = [
    {"class_path": "Weighted", "init_args": {"parts": [["Squish", 0.5], [{"class_path": "Positive"}, 0.25]]}},
    "Support",
]
SUM, SUPPORT = "0.5 squish + 0.25 positive", "support"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs.jsonl").write_text("\n".join(json.dumps({"text": text, "highlights": "Dawn."}) for text in TEXTS))
    Path("ours.jsonl").write_text("\n".join(json.dumps({"summary": summary}) for summary in SUMMARIES))


def arguments(*models: Path, **more: object) -> list[str]:
    config: dict[str, object] = {
        "documents": "docs.jsonl",
        "contenders": [
            {"class_path": "GivenSummaries", "init_args": {"path": "ours.jsonl", "name": "ours"}},
            "Opening",
            "CopiedOpening",
        ],
        "good": "ours",
        "budgets": ["30%"],
        "references": [{"base": str(model), "name": f"r{i}"} for i, model in enumerate(models)],
        "score": {"measures": MEASURES},
        "device": "cpu",
        "logs": None,
        **more,
    }
    Path("config.yaml").write_text(yaml.safe_dump(config))
    return ["compare", "--config", "config.yaml"]


def measured(model: Path) -> list[dict[str, float]]:
    """The scores of our summaries, by the scorer itself."""
    scorer = SquishScorer.from_pretrained(
        str(model), measures=[Weighted([(Squish(), 0.5), (Positive(), 0.25)]), Support()]
    )
    found = [scorer.score(text, [summary], "30%") for text, summary in zip(TEXTS, SUMMARIES, strict=True)]
    return [
        {"squish": float(one.score[0]), **{name: float(values[0]) for name, values in one.measures.items()}}
        for one in found
    ]


def test_measures_are_scores_of_the_leaderboard(tiny_model_folder, tiny_llama_folder, tmp_path, capsys) -> None:
    more = {"report": "report", "output": "out", "logs": "logs", "rank_by": SUM}
    code, out, err = run_cli(arguments(tiny_model_folder, tiny_llama_folder, **more), capsys)
    assert code == 0, err
    assert f"Budget 30%, reference r0, ranked by {SUM};" in out
    assert "support: summaries that are over the budget" in out
    expected = [measured(tiny_model_folder), measured(tiny_llama_folder)]
    with Path("report/leaderboard.csv").open() as file:
        rows = {row["reference"]: row for row in csv.DictReader(file) if row["contender"] == "ours"}
    assert list(rows) == ["r0", "r1", "mean of references"]
    for row, own in zip(rows.values(), expected, strict=False):
        assert float(row["squish"]) == pytest.approx(fmean(one["squish"] for one in own), abs=1e-7)
        assert float(row[SUM]) == pytest.approx(fmean(one[SUM] for one in own), abs=1e-7)
        assert own[1][SUM] == own[2][SUM] == 0  # over the budget, and none
        # the first one's alone
        assert math.isnan(own[1][SUPPORT])
        assert float(row[SUPPORT]) == pytest.approx(own[0][SUPPORT], abs=1e-6)
    combined = rows["mean of references"]
    assert float(combined[SUPPORT]) == pytest.approx(fmean(own[0][SUPPORT] for own in expected), abs=1e-6)
    assert json.loads(Path("out/leaderboard.json").read_text())[0]["rank"] == 1
    lines = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    ours = [line for line in lines if (line["contender"], line["reference"]) == ("ours", "r0")]
    assert [line[SUM] for line in ours] == pytest.approx([one[SUM] for one in expected[0]], abs=1e-7)
    assert [line[SUPPORT] is None for line in ours] == [False, True, True]
    shares = json.loads(Path("out/resistance.json").read_text())
    assert set(shares) == {"squish", "novel", SUM, SUPPORT}
    with Path("report/resistance.csv").open() as file:
        of = [line for line in csv.DictReader(file) if line["reference"] == "mean of references"]
    assert {line["score"]: float(line["share"]) for line in of} == {
        score: by_attack["copied opening"] for score, by_attack in shares.items()
    }
    assert {line["score"]: line["documents"] for line in of} == {"squish": "3", "novel": "3", SUM: "3", SUPPORT: "1"}
    assert f"| SQUISH | SQUISH-novel | {SUM} | support |" in Path("report/leaderboard.md").read_text()
    page = Path("report/index.html").read_text()
    assert page.count("0.5 squish + 0.25 positive</bdi></th>") == 3  # a head for each reference and all
    logged = b"".join(path.read_bytes() for path in Path("logs").rglob("events.out.*"))
    assert f"| SQUISH | SQUISH-novel | {SUM} | support |".encode() in logged
    # again, from the store: the same
    before = Path("report/leaderboard.csv").read_text()
    code, _, err = run_cli(arguments(tiny_model_folder, tiny_llama_folder, **more), capsys)
    assert code == 0, err
    assert Path("report/leaderboard.csv").read_text() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["--rank_by", "fair"],
            f"rank_by must be a score of the run, but is 'fair': there are 'squish', 'novel', '{SUM}'",
        ),
        (["--rank_by", "support"], "rank_by: 'support' has no value for a summary that does not count"),
        (["--score.measures=[Squish]"], "score.measures: 'squish' is a score of every run: leave it out"),
        (["--score.measures=[Support, Support]"], "score.measures: 2 are 'support'"),
        (["--score.measures=[Nonsense]"], "A measure has a class_path (Fair, Squish, Novel,"),
        (
            ["--score.measures=[Contrast]", "--max_documents=1", "--contenders=[Opening]"],
            "'contrast' lays each summary beside a document",
        ),
        (
            ["--score.measures=[{class_path: Novel, init_args: {m: 1}}]"],
            "A measure has a class_path (Fair, Squish, Novel,",
        ),
    ],
)
def test_mistakes_are_one_message(more: list[str], words: str, tiny_model_folder, capsys) -> None:
    code, out, err = run_cli([*arguments(tiny_model_folder), *more], capsys)
    assert code == 2
    assert words in " ".join(err.split())
    assert "A contender has" not in err
    assert "Traceback" not in out + err


def test_score_prints_and_writes_measures(tiny_model_folder, capsys) -> None:
    base = ["score", "--documents", "docs.jsonl", "--summaries", "ours.jsonl", "--budget", "30%", "--device", "cpu"]
    base += ["--base", str(tiny_model_folder)]
    code, out, err = run_cli([*base, f"--measures={json.dumps(MEASURES)}"], capsys)
    assert code == 0, err
    assert "support" in out
    lines = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    expected = measured(tiny_model_folder)
    assert [line[SUM] for line in lines] == pytest.approx([one[SUM] for one in expected], abs=1e-7)
    assert lines[0][SUPPORT] == pytest.approx(expected[0][SUPPORT], abs=1e-6)
    assert [line[SUPPORT] is None for line in lines] == [False, True, True]
    assert all(math.isfinite(line[f"lead_{SUPPORT}"]) for line in lines)
    code, _, err = run_cli([*base, "--measures=[Nonsense]"], capsys)
    assert code == 2
    assert "A measure has a class_path" in err
    code, out, _ = run_cli(["score", "--help"], capsys)
    assert code == 0
    assert "--measures" in out
