"""Length used, a curriculum over budgets and caps that follow from them, through the real command line."""

import json

import pytest
import torch
from cli_tools import dashboard, run_cli, tiny_arguments
from safetensors.torch import load_file

OPTIONS = [
    '--model.rollout.budgets=["50%", "20 tokens"]',
    '--model.rollout.curriculum=[[0, "50%"], [2, "20 tokens"]]',
    "--model.rollout.max_new_tokens=null",
    "--model.rollout.group_size=16",
    "--model.learn.length={power: 1.5, target: 0.9}",
    '--model.validation.budgets=["50%"]',
    "--model.validation.temperature=1",
]


def fit(model, folder, capsys, *more, rounds):
    code, out, err = run_cli(["fit", *tiny_arguments(model, folder, rounds), *OPTIONS, *more], capsys)
    assert code == 0, err
    return out


def events(folder):
    found = dashboard(folder)
    return {tag: {point.step: point.value for point in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def test_a_run_with_all_of_them_and_its_resumption(tiny_model_folder, tmp_path, capsys):
    fit(tiny_model_folder, tmp_path / "whole", capsys, rounds=4)
    figures = events(tmp_path / "whole")
    # most rows run on past 24 tokens, the cap of a run whose budget is 20 tokens or a fifth of 120
    assert max(figures["rollout/length_max"][n] for n in (1, 2)) > 25
    used, factor = figures["rollout/used"], figures["reward/length_factor"]
    assert used
    assert {"val/length_used", "val/copied", "val/copied@50%"} <= figures.keys()
    assert used.keys() == factor.keys()
    for round_, value in used.items():
        assert 0 < value <= 1
        assert 0 < factor[round_] <= min(1.0, value / 0.9) + 1e-6  # f is at most min(1, used / target)
    told = json.loads((tmp_path / "whole" / "run" / "results.json").read_text())
    assert told["after"]["val/length_used@50%"] == pytest.approx(
        figures["val/length_used@50%"][told["rounds"]["after"]], rel=1e-6
    )

    fit(tiny_model_folder, tmp_path / "parts", capsys, rounds=2)
    fit(tiny_model_folder, tmp_path / "parts", capsys, "--ckpt_path=last", rounds=4)
    one, other = (load_file(tmp_path / f / "run" / "last" / "adapter_model.safetensors") for f in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    again = json.loads((tmp_path / "parts" / "run" / "results.json").read_text())
    assert again == told

    card = (tmp_path / "whole" / "run" / "last" / "README.md").read_text()
    for words in ("longest completion: as its budget takes", "curriculum: 50% from round 0, 20 tokens from round 2"):
        assert words in card


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        # 60 tokens of 120, and the tag H
        (
            "--model.rollout.max_new_tokens=60",
            "max_new_tokens is 60, but a summary of 50% of data.max_tokens (120) and",
        ),
        ('--model.rollout.curriculum=[[1, "50%"], [2, "20 tokens"]]', "no budget is drawn in round 0"),
        ("--model.learn.length.target=0", "model.learn.length.target must be a share of the budget"),
        ("--checkpoint.monitor=val/length_used", "checkpoint.monitor must be one of val/squish@50%"),
    ],
)
def test_mistakes_are_one_message(wrong, words, tiny_model_folder, tmp_path, capsys):
    code, out, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path), *OPTIONS, wrong], capsys)
    assert code == 2
    assert words in err
    assert err.count("error:") == 1
    assert "Traceback" not in out + err
