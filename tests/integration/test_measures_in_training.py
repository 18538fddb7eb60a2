"""Measures in training: as a reward, in validation, as what the best adapter is picked by, and after a stop."""

import json

import pytest
import torch
import yaml
from cli_tools import dashboard, run_cli, tiny_arguments
from safetensors.torch import load_file

WEIGHTED = "1_squish_-0.5_novel_4"
MEASURED = [
    "--model.rewards=[{class_path: Measured, init_args: {measure: {class_path: Support}, weight: 0.5}}]",
    "--model.score.measures=[{class_path: Weighted, init_args: {parts: [[Squish, 1.0], [{class_path: Novel}, -0.5]]}}]",
    f"--checkpoint.monitor=val/{WEIGHTED}",
    '--model.validation.budgets=["60%", "2 chars"]',
    "--model.validation.temperature=1",
    "--data.validation_size=8",
    "--model.rollout.max_new_tokens=96",
]


def fit(model, folder, capsys, *more, rounds):
    code, out, err = run_cli(["fit", *tiny_arguments(model, folder, rounds), *MEASURED, *more], capsys)
    assert code == 0, err
    return out


def test_a_run_with_measures_and_its_resumption(tiny_model_folder, tmp_path, capsys):
    out = fit(tiny_model_folder, tmp_path / "whole", capsys, rounds=4)
    state = torch.load(tmp_path / "whole" / "run" / "last.ckpt", weights_only=True)
    validations = state["squish"]["validations"]
    assert sorted(validations) == [0, 2, 4]
    for figures in validations.values():
        for squish, prefix in (("squish", ""), ("lead", "lead_")):
            for at in ("@60%", "@2 chars", ""):
                by_hand = figures[f"val/{squish}{at}"] - 0.5 * figures[f"val/{prefix}novel{at}"]
                assert figures[f"val/{prefix}{WEIGHTED}{at}"] == pytest.approx(by_hand, abs=1e-12)
        assert figures["val/support@60%"] < 0
        assert figures["val/squish@2 chars"] == 0
        assert not {"val/support@2 chars", "val/support"} & set(figures)
    (kept,) = (value for key, value in state["callbacks"].items() if "AdapterCheckpoint" in key)
    assert kept["best"] == max(validations[n][f"val/{WEIGHTED}"] for n in (2, 4)) != 0
    assert kept["judged"]["model.score.measures"] == "Weighted(parts=[(Squish(), 1.0), (Novel(n=4), -0.5)])"
    assert "SQUISH, SQUISH-novel and measures" in out
    assert f"picked by val/{WEIGHTED}, measured by" in out
    card = (tmp_path / "whole" / "run" / "best" / "README.md").read_text()
    assert "rewards: Measured(weight=0.5, name=support, measure=Support())" in card.replace("\\", "")
    assert f"copied opening: {WEIGHTED}" in card

    board = dashboard(tmp_path / "whole")
    tags = set(board.Tags()["scalars"])
    assert {"reward/support", "score/support", f"score/{WEIGHTED}", "val/lead_support@60%"} <= tags
    for shown, rewarded in zip(board.Scalars("score/support"), board.Scalars("reward/support"), strict=True):
        assert shown.value == rewarded.value < 0

    fit(tiny_model_folder, tmp_path / "halves", capsys, rounds=2)
    fit(tiny_model_folder, tmp_path / "halves", capsys, "--ckpt_path=last", rounds=4)
    one, other = (
        load_file(tmp_path / name / "run" / "last" / "adapter_model.safetensors") for name in ("whole", "halves")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    again = torch.load(tmp_path / "halves" / "run" / "last.ckpt", weights_only=True)
    assert again["squish"]["validations"] == validations
    (saved,) = (value for key, value in again["callbacks"].items() if "AdapterCheckpoint" in key)
    assert repr(saved) == repr(kept)  # as texts, in which what is no number equals itself


def test_an_audit_and_further_references_measure_them_too(tiny_model_folder, tiny_llama_folder, tmp_path, capsys):
    more = [
        f"--model.reference.others=[{{base: {tiny_llama_folder}}}]",
        f"--model.validation.audit.base={tiny_llama_folder}",
        f"--checkpoint.monitor=val/audit_{WEIGHTED}",
    ]
    out = fit(tiny_model_folder, tmp_path, capsys, *more, rounds=1)
    assert f"picked by val/audit_{WEIGHTED}, measured by {tiny_llama_folder.name}, which gives no reward" in out
    figures = json.loads((tmp_path / "run" / "best" / "squish.json").read_text())["scores"]
    assert figures["val/audit_support@60%"] < 0
    by_hand = figures["val/audit_squish"] - 0.5 * figures["val/audit_novel"]
    assert figures[f"val/audit_{WEIGHTED}"] == pytest.approx(by_hand, abs=1e-12)
    assert figures[f"val/audit_{WEIGHTED}"] != figures[f"val/{WEIGHTED}"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("--model.rewards=[Nonsense]", "A reward has a class_path (Squish, SquishNovel, Measured"),
        ("--model.rewards=[{class_path: Measured, init_args: {measure: Nonsense}}]", "A measure has a class_path"),
        ("--model.score.measures=[Nonsense]", "A measure has a class_path (Fair, Squish, Novel"),
        ("--model.score.measures=[{class_path: Novel, init_args: {n: 0}}]", "score.measures: novel 0: n must be"),
        ("--model.score.measures=[Squish]", "model.measures: 'squish' would be val/squish"),
        ("--checkpoint.monitor=val/novel_3", "checkpoint.monitor must be one of val/squish@60%"),
    ],
)
def test_mistakes_are_one_message(wrong, words, tiny_model_folder, tmp_path, capsys):
    code, out, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path), *MEASURED, wrong], capsys)
    assert code == 2
    assert words in err
    assert err.count("error:") == 1
    assert "Traceback" not in out + err


def test_a_users_only_reward_takes_nothing_from_the_default(capsys):
    code, out, err = run_cli(["fit", "--model.rewards=[OwnInformation]", "--print_config"], capsys)
    assert code == 0, err
    (reward,) = yaml.safe_load(out)["model"]["rewards"]
    assert reward["init_args"] == {"weight": 0.1, "name": "own_information"}
