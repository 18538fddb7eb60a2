"""The original's configurations on a tiny model, in small numbers, on files in C4's format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from cli_tools import run_cli
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.benchmark.original_rules import NOTE
from squish_pl.score.original import OriginalTemplate
from squish_pl.score.scorer import SquishScorer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_tiny_model("qwen3", context=16384).save_pretrained(folder)
    make_byte_tokenizer().save_pretrained(folder)
    return folder


def test_training(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"Report {i}. " + "The committee met again on Thursday. " * 240 for i in range(9)]
    (tmp_path / "c4.json").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    best = tmp_path / "by_reward"
    small = [
        f"--model.base_model.base={model_folder}",
        f"--data.documents={tmp_path / 'c4.json'}",
        f"--checkpoint.dirpath={tmp_path / 'run'}",
        f"--trainer.logger.init_args.save_dir={tmp_path / 'runs'}",
        f"--trainer.callbacks.init_args.dirpath={best}",
        *("--model.rollout.group_size=4", "--data.batch_size=2", "--data.max_tokens=200", "--data.validation_size=1"),
        *("--model.prompt.close_tag=H", "--trainer.max_steps=8", "--trainer.num_sanity_val_steps=0"),
    ]
    code, _, err = run_cli(["fit", "--config", "original.yaml", *small], capsys)
    assert code == 0, err
    (config,) = (tmp_path / "runs").rglob("config.yaml")
    kept = yaml.safe_load(config.read_text())
    assert kept["model"]["score"]["protocol"] == "original"
    (checkpoint,) = best.iterdir()
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["squish"]["round"] in (1, 2)
    (theirs,) = (s for name, s in saved["callbacks"].items() if name.startswith("ModelCheckpoint"))
    assert theirs["monitor"] == "reward/mean"
    (group,) = saved["optimizer_states"][0]["param_groups"]
    assert group["weight_decay"] == 0.01


def test_benchmark(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of five documents the first is too short, and one too long beside its summary; the others come in order."""
    configured = yaml.safe_load((ROOT / "configs" / "original_benchmark.yaml").read_text())
    assert (configured["min_characters"], configured["max_with_summary"]) == (8000, 16384 - 500)
    lengths = [799, 800, 1444, 1443, 900]  # a tenth of it, for time
    texts = [(f"{i} " + "It rained in the north. " * 700)[:length] for i, length in enumerate(lengths)]
    (tmp_path / "c4.json").write_text("\n".join(json.dumps({"text": text, "id": str(len(text))}) for text in texts))
    arguments = [
        *("compare", "--config", "original_benchmark.yaml", f"--documents={tmp_path / 'c4.json'}"),
        f"--references=[{{base: {model_folder}, name: tiny}}]",
        *("--min_characters=800", "--max_with_summary=1588", "--max_documents=2"),
        *("--score.batch_tokens=1", f"--store={tmp_path / 's.sqlite'}", "--logs=null"),
        f"--output={tmp_path / 'out'}",
    ]
    code, out, err = run_cli(arguments, capsys)
    assert code == 0, err
    assert " ".join(NOTE.split()) in " ".join(out.split())
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["800", "1443"]
    assert lines[0]["summary"] == texts[1][:56]
    scorer = SquishScorer.from_pretrained(str(model_folder), template=OriginalTemplate())
    expected = scorer.score(texts[1], [texts[1][:56]], "10%")
    assert lines[0]["squish"] == pytest.approx(float(expected.score[0]), abs=1e-6)
    assert lines[0]["information"] == pytest.approx(expected.information, rel=1e-6)
