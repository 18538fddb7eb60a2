"""Thinking before the summary, on the real command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from cli_tools import run_cli, tiny_arguments
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[2]
# a random model hits one given byte now and then
THINKING = [
    '--model.prompt={"close_tag": "H", "chat": "never"}',
    "--model.prompt.thinking.max_tokens=64",
    "--model.prompt.thinking.close_tag=U",
    "--model.rollout.max_new_tokens=90",  # the policy writes the opening tag, too
]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "run" / "last" / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model_folder) -> Path:
    from squish_pl.cli.main import main

    folder = tmp_path_factory.mktemp("thinking")
    assert main(["fit", *tiny_arguments(tiny_model_folder, folder), *THINKING]) == 0
    return folder


def test_a_stopped_run_goes_on_to_the_same_adapter(finished, tiny_model_folder, tmp_path, capsys) -> None:
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path, rounds=1), *THINKING]
    assert run_cli(["fit", *arguments], capsys)[0] == 0
    assert not same(adapter(tmp_path), adapter(finished))
    code, _, err = run_cli(["fit", *arguments, "--trainer.max_steps=2", "--ckpt_path=last"], capsys)
    assert code == 0, err
    assert same(adapter(tmp_path), adapter(finished))


def test_its_figures_are_documented_and_the_card_tells_how_to_prompt(finished) -> None:
    events = EventAccumulator(str(next((finished / "runs").rglob("events.out*")).parent))
    events.Reload()
    found = {tag for tag in events.Tags()["scalars"] if "thought" in tag or "summary_" in tag}
    text = (ROOT / "docs" / "metrics.md").read_text()
    keys = (
        key
        for line in text.splitlines()
        if line.startswith("| `")
        for key in re.findall("`([^`]+)`", line.split("|")[1])
    )
    assert found == {key for key in keys if key.startswith(("rollout/thought", "rollout/summary_"))}
    assert len(found) == 6
    ends = ("closed", "outgrown", "capped", "ended", "thought")
    for shares in zip(*(events.Scalars(f"rollout/{end}") for end in ends), strict=True):
        assert sum(share.value for share in shares) == pytest.approx(1.0, abs=1e-6)
    card = (finished / "run" / "last" / "README.md").read_text()
    assert (
        "followed by `<think>`.\nThe model then thinks, in at most 64 tokens up to `U`, and writes the summary." in card
    )
    assert "note the facts that matter most" in card


def test_predictions_tell_the_thoughts(finished, tiny_model_folder, tmp_path, capsys) -> None:
    output = tmp_path / "out.jsonl"
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path), *THINKING, "--predictions.path", str(output)]
    code, _, err = run_cli(["predict", *arguments, "--model.adapter", str(finished / "run" / "last")], capsys)
    assert code == 0, err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert lines
    for line in lines:
        assert isinstance(line["thought"], str)
        assert (line["summary"] is not None) == (line["finish"] == "closed")
        assert "U" not in line["thought"]
    assert "thought" in {line["finish"] for line in lines}


@pytest.mark.parametrize(
    "turned_on", ["--model.prompt.thinking={}", '--model.prompt={"thinking": {"max_tokens": 256}}']
)
def test_it_is_turned_on_by_one_setting(turned_on, capsys) -> None:
    code, out, err = run_cli(["fit", "--config", "smollm2.yaml", turned_on, "--print_config"], capsys)
    assert code == 0, err
    assert "    thinking:\n      max_tokens: 256\n" in out
    code, out, _ = run_cli(["fit", "--config", "smollm2.yaml", "--print_config"], capsys)
    assert "    thinking: null\n" in out


def test_its_problems_are_told_with_the_others(tiny_model_folder, tmp_path, capsys) -> None:
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path), "--model.prompt.thinking.max_tokens=9"]
    code, _, err = run_cli(["fit", *arguments, "--model.learn.thought_share=-1"], capsys)
    assert code == 2
    assert "model.prompt.thinking.max_tokens must be from 64 to 1024, but is 9" in err
    assert "model.learn.thought_share must be" in err


def test_help_tells_of_it(capsys) -> None:
    code, out, _ = run_cli(["fit", "--help"], capsys)
    assert code == 0
    assert "\n--model.prompt.thinking.max_tokens 256 lets the policy think before it writes\n" in out
