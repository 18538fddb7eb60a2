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
from tiny import make_byte_tokenizer, make_tiny_model

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


def dashboard(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(next((folder / "runs").rglob("events.out*")).parent))
    events.Reload()
    return events


def figures(folder: Path) -> dict[str, float]:
    """Of the last round."""
    events = dashboard(folder)
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


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
    events = dashboard(finished)
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


@pytest.fixture(scope="module")
def thinking_chat_model(tmp_path_factory) -> Path:
    """A tiny random Qwen3 whose chat template thinks as Qwen3's does, with tags of one token each."""
    folder = tmp_path_factory.mktemp("tiny-chat")
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    )
    model = make_tiny_model()
    torch.manual_seed(1)  # of the new tokens' embeddings
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_chat_model_with_thinking_of_its_own_trains_and_predicts(thinking_chat_model, tmp_path, capsys) -> None:
    thinking = ['--model.prompt={"close_tag": "H"}', "--model.prompt.thinking.max_tokens=64"]
    arguments = [*tiny_arguments(thinking_chat_model, tmp_path), *thinking, "--model.rollout.max_new_tokens=90"]
    code, _, err = run_cli(["fit", *arguments, "--model.rollout.group_size=32"], capsys)
    assert code == 0, err
    found = figures(tmp_path)
    assert 0 < found["rollout/thought"] < 1  # some thoughts close, and some do not
    assert found["rollout/closed"] > 0
    assert 1 < found["rollout/thought_length"] < 64
    output = tmp_path / "out.jsonl"
    asked = [
        "predict",
        *arguments,
        "--model.adapter",
        str(tmp_path / "run" / "last"),
        "--predictions.path",
        str(output),
    ]
    code, _, err = run_cli(asked, capsys)
    assert code == 0, err
    assert all("</think>" not in json.loads(line)["thought"] for line in output.read_text().splitlines())


def test_a_warm_start_learns_thoughts_with_their_summaries(tiny_model_folder, tmp_path, capsys) -> None:
    warm = ["--model.warm_start.rounds=1", "--model.warm_start.least_used=0.01", "--model.warm_start.group_size=32"]
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path, rounds=1), *THINKING, *warm]
    code, _, err = run_cli(["fit", *arguments], capsys)
    assert code == 0, err
    found = figures(tmp_path)
    assert found["warm/kept"] > 0
    assert found["warm/loss"] > 0
    code, _, err = run_cli(["fit", *arguments, "--model.warm_start.source=highlights"], capsys)
    assert code == 2
    assert "model.warm_start.source is highlights, which come without a thought" in err


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
