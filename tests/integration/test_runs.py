"""fit, validate, predict and resume through the real command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import peft
import pytest
import torch
import yaml
from cli_tools import run_cli, tiny_arguments
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, tiny_model_folder):
    """A run of six rounds in a process of its own: (its folder, what it printed)."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = [*tiny_arguments(tiny_model_folder, folder, rounds=6), "--checkpoint.every_n_rounds=3"]
    done = subprocess.run(
        [sys.executable, "lightning_cli.py", "fit", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_fit_tells_what_came_of_it(finished_run):
    folder, printed = finished_run
    assert "before" in printed
    assert "round 6" in printed
    assert "copied opening" in printed
    assert "SQUISH-novel" in printed
    assert f"adapter: {folder / 'run' / 'best'}" in printed
    assert f"tensorboard --logdir {folder / 'runs'}" in printed


def test_the_adapter_loads_in_plain_peft_and_does_something(finished_run):
    folder, _ = finished_run
    ids = torch.tensor([[5, 6, 7, 8]])
    base = make_tiny_model()(ids).logits
    for name in ("best", "last"):
        model = peft.PeftModel.from_pretrained(make_tiny_model(), str(folder / "run" / name))
        assert not torch.allclose(model(ids).logits, base, atol=1e-3)


def test_the_model_card_says_how_it_was_trained(finished_run):
    folder, _ = finished_run
    card = (folder / "run" / "last" / "README.md").read_text()
    for word in ("library_name: peft", "after round 6", "group size: 4", "| 10% |", "| 20 tokens |", "copied opening"):
        assert word in card
    (example,) = yaml.safe_load(card.split("---")[1])["widget"]  # what the Hub's page offers to be sent
    assert example["text"].startswith("<s>Article:\nThe ferry to the island left")
    assert "at most 100 characters" in example["text"]
    assert example["text"].endswith("</summary>.\n<summary>")
    assert json.loads((folder / "run" / "last" / "squish.json").read_text())["round"] == 6


def test_the_checkpoint_is_small_and_plain(finished_run):
    folder, _ = finished_run
    checkpoint = torch.load(folder / "run" / "last.ckpt", weights_only=True)
    assert all("lora_" in name for name in checkpoint["state_dict"])
    adapter_bytes = sum(t.numel() * 4 for t in checkpoint["state_dict"].values())
    assert (folder / "run" / "last.ckpt").stat().st_size < 4 * adapter_bytes + 100_000
    assert {"batches", "position"} <= set(checkpoint["DocumentDataModule"])


def expand(key: str) -> list[str]:
    """Keys of a documented one: @B stands for each budget; the bootstrap line stands for its siblings too."""
    keys = [key]
    if key.startswith(("val/squish_low", "val/squish_high")):
        keys = [key.replace("squish", kind) for kind in ("squish", "novel", "lead", "lead_novel")]
    apart = "val/audit_", "entropy/", "warm/", "rollout/thought", "rollout/summary_"
    if "<" in key or key.startswith(apart) or key in ("reward/length_factor", "seconds/waiting"):
        return []  # the default component is called squish; those of measures and settings have tests of their own
    return [k.replace("@B", f"@{budget}") for k in keys for budget in ("10%", "20 tokens")]


def test_every_scalar_is_documented_and_every_documented_one_is_there(finished_run):
    folder, _ = finished_run
    events = EventAccumulator(str(next((folder / "runs").rglob("events.out*")).parent))
    events.Reload()
    logged = {tag for tag in events.Tags()["scalars"] if "/" in tag}
    text = (ROOT / "docs" / "metrics.md").read_text()
    documented = {
        key
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+/[^`]+)`", line.split("|")[1])
        for key in expand(name)
    }
    on_gpu = {f"memory/{name}_gb" for name in ("rollout_peak", "scoring_peak", "policy_peak", "allocated")}
    # of summaries that can be parsed: the tiny model writes none under some budget
    of_parsed = {key for key in documented if key.startswith(("val/length_used", "val/copied"))}
    assert documented - logged - of_parsed == on_gpu
    assert logged - documented == set()
    assert [point.step for point in events.Scalars("val/squish")] == [0, 2, 4, 6]
    assert [point.step for point in events.Scalars("reward/mean")] == [1, 2, 3, 4, 5, 6]
    for shares in zip(
        *(events.Scalars(f"rollout/{end}") for end in ("closed", "outgrown", "capped", "ended")), strict=True
    ):
        assert sum(point.value for point in shares) == pytest.approx(1.0, abs=1e-6)
    tables = events.Tensors("summaries/text_summary")
    assert len(tables) == 4
    openings = [re.findall(r"^\| (.*?)… \|", t.tensor_proto.string_val[0].decode(), re.M) for t in tables]
    assert openings[0]
    assert all(opening == openings[0] for opening in openings)


def test_validate_and_predict_from_a_checkpoint_or_adapter(finished_run, tiny_model_folder, tmp_path, capsys):
    folder, printed = finished_run
    arguments = tiny_arguments(tiny_model_folder, tmp_path)
    final = re.findall(r"-?\d\.\d{4}", printed.split("round 6")[1])
    results = []
    for source in (
        ["--ckpt_path", str(folder / "run" / "last.ckpt")],
        ["--model.adapter", str(folder / "run" / "last")],
    ):
        code, out, _ = run_cli(["validate", *arguments, *source], capsys)
        assert code == 0
        results.append(re.findall(r"-?\d\.\d{4}", out))
    assert results[0] == results[1]
    assert results[0]
    assert set(results[0]) <= set(final)  # the same model scores what it scored at the end of the run

    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "b.txt").write_text("Second document, about the ferry and its goat.")
    (texts / "a.txt").write_text("First document, about a bakery that a chess club has bought.")
    output = tmp_path / "out.jsonl"
    predict = ["--data.documents", str(texts), "--predictions.path", str(output), "--model.adapter"]
    code, out, _ = run_cli(["predict", *arguments, *predict, str(folder / "run" / "best")], capsys)
    assert code == 0
    assert f"4 summaries written to {output}" in out
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(Path(line["url"]).name, line["budget"], line["limit"]) for line in lines] == [
        ("a.txt", "10%", 6),
        ("a.txt", "20 tokens", 20),
        ("b.txt", "10%", 4),
        ("b.txt", "20 tokens", 20),
    ]
    for line in lines:
        assert (line["summary"] is not None) == (line["finish"] == "closed")
        assert line["summary"] is None or len(line["summary"].encode()) <= 4 * line["limit"]


def test_a_stopped_run_goes_on_to_the_same_adapter(finished_run, tiny_model_folder, tmp_path, capsys):
    folder, _ = finished_run
    code, _, _ = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path, rounds=3)], capsys)
    assert code == 0
    assert not same(adapter(tmp_path / "run" / "last"), adapter(folder / "run" / "last"))
    resumed = [*tiny_arguments(tiny_model_folder, tmp_path, rounds=6), "--ckpt_path", "last"]
    code, out, _ = run_cli(["fit", *resumed], capsys)
    assert code == 0
    assert "before" in out  # the scores before training came along
    assert same(adapter(tmp_path / "run" / "last"), adapter(folder / "run" / "last"))


def test_a_checkpoint_in_the_form_of_earlier_versions_goes_on(finished_run, tiny_model_folder, tmp_path, capsys):
    """0.1.0 wrote whether groups share their prompt, and nothing of how the best adapter is chosen."""
    folder, _ = finished_run
    code, _, _ = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path, rounds=3)], capsys)
    assert code == 0
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    engine = checkpoint["squish"]["engine"]
    engine["grouped"] = engine.pop("passes") == "shared_prefix"
    (key,) = (key for key in checkpoint["callbacks"] if "AdapterCheckpoint" in key)
    kept = checkpoint["callbacks"][key]
    checkpoint["callbacks"][key] = {name: kept[name] for name in ("best", "best_round")}
    torch.save(checkpoint, tmp_path / "run" / "last.ckpt")
    resumed = [*tiny_arguments(tiny_model_folder, tmp_path, rounds=6), "--ckpt_path", "last"]
    code, _, err = run_cli(["fit", *resumed], capsys)
    assert code == 0, err
    assert same(adapter(tmp_path / "run" / "last"), adapter(folder / "run" / "last"))
    assert same(adapter(tmp_path / "run" / "best"), adapter(folder / "run" / "best"))


def test_a_killed_run_goes_on_to_the_same_adapter(finished_run, tiny_model_folder, tmp_path):
    """SIGKILL between checkpoints; what had been written by halves is not picked up."""
    folder, _ = finished_run
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path, rounds=6), "--checkpoint.every_n_rounds=1"]
    arguments.append("--trainer.val_check_interval=100")
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "lightning_cli.py", "fit", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not (run / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    assert 1 <= checkpoint["squish"]["round"] < 6
    # a write that the kill cut short leaves a file like this one
    (run / ".last.ckpt.half").write_bytes((run / "last.ckpt").read_bytes()[:500])
    done = subprocess.run(
        [sys.executable, "lightning_cli.py", "fit", *arguments, "--ckpt_path", "last"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert same(adapter(run / "last"), adapter(folder / "run" / "last"))


def test_a_run_asked_to_end_saves_and_goes_on_to_the_same_adapter(finished_run, tiny_model_folder, tmp_path):
    """SIGTERM, as a scheduler sends it: the round is finished and saved."""
    folder, _ = finished_run
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path, rounds=6), "--checkpoint.every_n_rounds=1"]
    run = tmp_path / "run"
    command = [sys.executable, "lightning_cli.py", "fit", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not (run / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.terminate()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "--ckpt_path last" in printed
    assert 1 <= torch.load(run / "last.ckpt", weights_only=True)["squish"]["round"] < 6
    done = subprocess.run([*command, "--ckpt_path", "last"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert same(adapter(run / "last"), adapter(folder / "run" / "last"))


def test_the_validation_after_the_last_round_counts(tiny_model_folder, tmp_path, capsys):
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path, rounds=3), "--checkpoint.mode", "min"]
    code, out, _ = run_cli(["fit", *arguments, "--checkpoint.monitor", "val/parsed"], capsys)
    assert code == 0
    assert "round 3" in out
    card = (tmp_path / "run" / "last" / "README.md").read_text()
    assert "after round 3" in card
    assert "| 10% |" in card
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert sorted(checkpoint["squish"]["validations"]) == [0, 2, 3]


def test_a_new_run_keeps_an_earlier_one(finished_run, tiny_model_folder, tmp_path, capsys):
    arguments = tiny_arguments(tiny_model_folder, tmp_path, rounds=1)
    assert run_cli(["fit", *arguments], capsys)[0] == 0
    first = adapter(tmp_path / "run" / "last")
    code, out, _ = run_cli(["fit", *arguments, "--seed_everything", "5"], capsys)
    assert code == 0
    assert "run-earlier-1" in out
    assert same(adapter(tmp_path / "run-earlier-1" / "last"), first)
    assert not same(adapter(tmp_path / "run" / "last"), first)


def test_the_3090_configuration_on_a_tiny_model(tmp_path, capsys):
    """The whole path of configs/3090.yaml, in small numbers, from a local file in C4's format."""
    from tiny import make_byte_tokenizer

    make_tiny_model("qwen3", context=8192).save_pretrained(tmp_path / "model")
    make_byte_tokenizer().save_pretrained(tmp_path / "model")
    records = [
        {"text": f"Report {i}. " + "The committee met again on Thursday. " * 240, "url": str(i)} for i in range(12)
    ]
    (tmp_path / "c4.json").write_text("\n".join(map(json.dumps, records)))
    arguments = [
        "--config",
        "3090.yaml",
        "--trainer.fast_dev_run",
        "1",
        "--model.base_model.base",
        str(tmp_path / "model"),
    ]
    arguments += ["--data.documents", str(tmp_path / "c4.json"), "--checkpoint.dirpath", str(tmp_path / "run")]
    small = [
        "--model.rollout.group_size=4",
        "--data.batch_size=2",
        "--data.max_tokens=600",
    ]
    small += ["--model.prompt.close_tag=H", "--model.memory.compile=false", "--data.validation_batch_size=2"]
    code, _, err = run_cli(["fit", *arguments, *small], capsys)
    assert code == 0, err
    assert not (tmp_path / "run").exists()  # a trial run saves nothing
