"""A warm start on the real command line: its rounds, its figures, and a run that stops within it and at its edge."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from cli_tools import dashboard, run_cli, tiny_arguments
from safetensors.torch import load_file

from squish_pl.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
WARM = [
    "--model.warm_start.rounds=2",
    "--model.warm_start.passes=3",
    "--model.warm_start.learning_rate=0.02",
    "--model.warm_start.least_used=0.01",
    "--model.warm_start.group_size=24",
    "--model.learn.policy_passes=2",
    "--model.optimizer.warmup_steps=1",
]
STEPS = 2 * 3 + 2 * 2  # two rounds of the warm start, two by reward


def arguments(model: Path, folder: Path, steps: int, *more: str) -> list[str]:
    return ["fit", *tiny_arguments(model, folder, steps), *WARM, "--trainer.enable_progress_bar=false", *more]


@pytest.fixture(scope="module", params=["shared_prefix", "padded"])
def whole_run(request, tmp_path_factory, tiny_model_folder):
    """Two rounds of warm start and two by reward without a stop: (its folder, the way its groups run)."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(arguments(tiny_model_folder, folder, STEPS, f"--model.memory.passes={request.param}")) == 0
    return folder, request.param


def test_both_phases_are_on_the_dashboard(whole_run):
    folder, _ = whole_run
    events = dashboard(folder)
    logged = set(events.Tags()["scalars"])
    rows = re.findall(r"^\| `(warm/[a-z_]+)`", (ROOT / "docs" / "metrics.md").read_text(), re.M)
    assert {tag for tag in logged if tag.startswith("warm/")} == set(rows)

    def rounds(tag: str) -> list[int]:
        return [point.step for point in events.Scalars(tag)]

    assert rounds("warm/loss") == rounds("warm/kept") == [1, 2]
    assert rounds("loss/policy") == [3, 4]
    assert rounds("reward/mean") == rounds("rollout/used") == rounds("seconds/policy") == [1, 2, 3, 4]
    assert rounds("val/squish") == [0, 2, 4]
    assert all(point.value > 0 for point in events.Scalars("warm/kept"))
    # of the next step: the warm-up has begun again
    rates = [point.value for point in events.Scalars("optim/learning_rate")]
    assert rates == pytest.approx([0.02, 0.02, 0.01, 0.01])
    card = (folder / "run" / "last" / "README.md").read_text()
    assert "- warm start: 2 rounds of learning the best of each document" in card


@pytest.mark.parametrize("stop", [3, 6, 8], ids=["within", "at its edge", "after it"])
def test_a_run_that_stops_goes_on_to_the_same_adapter(whole_run, stop, tiny_model_folder, tmp_path, capsys):
    folder, passes = whole_run
    more = [f"--model.memory.passes={passes}", "--checkpoint.every_n_rounds=1"]
    assert run_cli(arguments(tiny_model_folder, tmp_path, stop, *more), capsys)[0] == 0
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert checkpoint["squish"]["round"] == {3: 1, 6: 2, 8: 3}[stop]
    assert checkpoint["squish"]["warming"] is (stop <= 6)
    code, _, err = run_cli(arguments(tiny_model_folder, tmp_path, STEPS, *more, "--ckpt_path=last"), capsys)
    assert code == 0, err
    one, other = (load_file(f / "run" / "last" / "adapter_model.safetensors") for f in (folder, tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    whole, halves = (torch.load(f / "run" / "last.ckpt", weights_only=True) for f in (folder, tmp_path))
    moments = [
        torch.cat(
            [state[n].flatten() for state in c["optimizer_states"][0]["state"].values() for n in ("step", "exp_avg_sq")]
        )
        for c in (whole, halves)
    ]
    assert torch.equal(*moments)
    assert whole["lr_schedulers"][0]["last_epoch"] == halves["lr_schedulers"][0]["last_epoch"] == 4
    assert whole["global_step"] == halves["global_step"] == STEPS
    assert whole["squish"]["validations"][4] == halves["squish"]["validations"][4]


def test_summaries_of_a_file_are_learnt(tiny_model_folder, tmp_path, capsys):
    samples = (ROOT / "squish_pl" / "data" / "samples" / "train.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in samples]
    lines = [json.dumps({"document": text, "summary": text[:60].rpartition(" ")[0]}) for text in texts]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines))
    more = [
        "--model.warm_start.source=highlights",
        f"--data.highlights={tmp_path / 'sums.jsonl'}",
        "--model.rollout.max_new_tokens=80",
        "--model.warm_start.least_used=0.1",
    ]
    code, _, err = run_cli(arguments(tiny_model_folder, tmp_path, STEPS, *more), capsys)
    assert code == 0, err
    assert "warm start: 2 rounds of learning the summaries that come with the documents" in err
    assert "warm start: ended after round 2" in err
    events = dashboard(tmp_path)
    assert [point.value for point in events.Scalars("warm/documents")] == [1.0, 1.0]
    first, second = (point.value for point in events.Scalars("warm/loss"))
    assert second < first
    assert [point.step for point in events.Scalars("rollout/entropy")] == [3, 4]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("--model.warm_start.keep=0", "model.warm_start.keep must be a share below 1 or a whole number above 0"),
        ("--model.warm_start.source=people", "source"),
        ("--data.highlights=/none/of.jsonl", "cannot read '/none/of.jsonl'"),
    ],
)
def test_mistakes_are_one_message(wrong, words, tiny_model_folder, tmp_path, capsys):
    code, out, err = run_cli(arguments(tiny_model_folder, tmp_path, STEPS, wrong), capsys)
    assert code == 2
    assert words in err
    assert err.count("error:") == 1
    assert "Traceback" not in out + err
