"""Mistakes users make: one clear message each, exit code 2, no traceback."""

import json
import os
import shutil
from pathlib import Path

import pytest
from cli_tools import run_cli, tiny_arguments

from squish_pl.callbacks.checkpoint_io import AtomicCheckpointIO
from squish_pl.errors import CheckpointError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--config", "309.yaml"], ["no configuration '309.yaml'", "3090.yaml", "smollm2.yaml"]),
        (["--model.group_sise", "4"], ["group_sise"]),
        (["--model.base_model.base", "no/such/model/here"], ["no folder 'no/such/model/here'"]),
        (["--model.base_model.base", "nobody/nothing"], ["cannot load the", "nobody/nothing", "smollm2.yaml"]),
        (["--model.base_model.base", "package:no_such_package"], ["no_such_package", "not installed"]),
        (["--data.documents", "no_such_file.jsonl"], ["no_such_file.jsonl"]),
        (["--model.rollout.budgets", '["0%"]'], ["model.rollout.budgets", "above zero", "'0%'"]),
        (["--model.rollout.budgets", '["ten"]'], ["model.rollout.budgets", "'ten'", "64 tokens"]),
        (["--model.rollout.group_size", "1"], ["model.rollout.group_size must be at least 2"]),
        (["--data.max_tokens", "4090"], ["data.max_tokens (4090)", "reads 4096"]),
        (["--trainer.precision", "bf16-true"], ["trainer.precision", "model.base_model.dtype"]),
        (["--ckpt_path", "last"], ["there is no checkpoint"]),
        (["--ckpt_path", "no.ckpt"], ["there is no checkpoint no.ckpt"]),
        (["--model.adapter", "."], ["expected a PEFT adapter folder"]),
        (["--model.optimizer.learning_rate", ".nan"], ["optimizer.learning_rate", "but is nan"]),
        (["--model.lora.targets", "no_such_layer"], ["model.lora"]),
        (["--checkpoint.monitor", "val/nothing"], ["checkpoint.monitor", "val/squish@10%"]),
        (["--checkpoint.dirpath", "."], ["checkpoint.dirpath"]),
        (["--data.documents", ""], ["data.documents"]),
        (["--trainer.accelerator", "gpu"], ["trainer:"]),
        (["--trainer.max_steps", "-5"], ["no end", "trainer.max_steps"]),
    ],
)
def test_one_message_and_exit_code_2(changes, words, tiny_model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path), *changes], capsys)
    assert code == 2
    message = err[err.index("error: ") :]
    assert message.count("error: ") == 1
    for word in words:
        assert word in message
    assert "Traceback" not in err


def test_an_empty_folder(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    arguments = ["fit", *tiny_arguments(tiny_model_folder, tmp_path), "--data.documents", str(tmp_path / "empty")]
    code, _, err = run_cli(arguments, capsys)
    assert code == 2
    assert "empty" in err


def test_a_document_too_long_for_the_model(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "long.jsonl").write_text("\n".join(json.dumps({"text": f"{i} " * 3000}) for i in range(40)))
    changes = ["--data.documents", str(tmp_path / "long.jsonl"), "--data.max_tokens", "null"]
    code, _, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path), *changes], capsys)
    assert code == 2
    assert "set data.max_tokens lower" in err


def test_all_problems_of_a_configuration_at_once(tiny_model_folder, tmp_path, capsys):
    changes = [
        "--model.rollout.group_size",
        "1",
        "--model.rollout.budgets",
        '["0%"]',
        "--data.batch_size",
        "0",
        "--entropy.window",
        "0",
        "--model.base_model.base",
        "/no/such/base",
        "--model.adapter",
        "/no/such/adapter",
    ]
    code, _, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path), *changes], capsys)
    assert code == 2
    for word in (
        "group_size",
        "'0%'",
        "batch_size",
        "entropy.window",
        "model.base_model.base: expected",
        "model.adapter",
    ):
        assert word in err


def test_an_adapter_made_for_another_base(tiny_model_folder, tmp_path, capsys):
    from tiny import make_byte_tokenizer, make_tiny_model

    run = tmp_path / "run"
    code, _, _ = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path)], capsys)
    assert code == 0
    make_tiny_model("qwen3", seed=5).save_pretrained(tmp_path / "other")
    make_byte_tokenizer().save_pretrained(tmp_path / "other")
    other = ["--model.base_model.base", str(tmp_path / "other")]
    for changes in (["--model.adapter", str(run / "last")], ["--ckpt_path", str(run / "last.ckpt")]):
        code, _, err = run_cli(["validate", *tiny_arguments(tiny_model_folder, tmp_path), *other, *changes], capsys)
        assert code == 2
        assert "another base model" in err
    shutil.copy(run / "last.ckpt", tmp_path / "cut.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((run / "last.ckpt").read_bytes()[:1000])
    arguments = [*tiny_arguments(tiny_model_folder, tmp_path), "--ckpt_path", str(tmp_path / "cut.ckpt")]
    code, _, err = run_cli(["fit", *arguments], capsys)
    assert code == 2
    assert "not a checkpoint that can be read" in err
    code, _, err = run_cli(
        ["validate", *tiny_arguments(tiny_model_folder, tmp_path), "--ckpt_path", str(run / "last")], capsys
    )
    assert code == 2
    assert "--model.adapter" in err


def test_no_disk_space_for_a_checkpoint(tiny_model_folder, tmp_path, capsys, monkeypatch):
    def full(path, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("squish_pl.callbacks.checkpoint_io.replacing", full)
    code, _, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path)], capsys)
    assert code == 2
    assert "No space left on device" in err
    assert "--ckpt_path last" in err
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_really_full_device(monkeypatch, tmp_path):
    """The operating system's own refusal, through the real file calls."""
    monkeypatch.setattr(
        "squish_pl.files.tempfile.mkstemp",
        lambda **kwargs: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "t")),
    )
    (tmp_path / "kept.ckpt").write_text("earlier")
    with pytest.raises(CheckpointError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"x": 1}, tmp_path / "kept.ckpt")
    assert (tmp_path / "kept.ckpt").read_text() == "earlier"


def test_a_run_that_blows_up_saves_nothing_of_it(tiny_model_folder, tmp_path, capsys):
    changes = ["--model.optimizer.learning_rate", "1e30", "--model.optimizer.warmup_steps", "0"]
    changes += ["--checkpoint.every_n_rounds", "1", "--trainer.val_check_interval", "100"]
    code, _, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path, rounds=8), *changes], capsys)
    assert code == 2
    assert "not finite" in err or "the loss is nan" in err


def test_a_folder_without_tokenizer(tmp_path, capsys):
    from tiny import make_tiny_model

    make_tiny_model().save_pretrained(tmp_path / "bare")
    code, _, err = run_cli(["fit", *tiny_arguments(tmp_path / "bare", tmp_path)], capsys)
    assert code == 2
    assert "tokenizer" in err
    assert "Traceback" not in err


def test_a_failed_start_leaves_the_earlier_run_where_it_is(tiny_model_folder, tmp_path, capsys):
    arguments = tiny_arguments(tiny_model_folder, tmp_path, rounds=1)
    assert run_cli(["fit", *arguments], capsys)[0] == 0
    assert run_cli(["fit", *arguments, "--model.base_model.base", "/no/such"], capsys)[0] == 2
    assert (tmp_path / "run" / "last.ckpt").exists()
    assert not (tmp_path / "run-earlier-1").exists()
