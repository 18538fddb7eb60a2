"""What --help tells."""

import pytest
from cli_tools import run_cli

from squish_pl.cli.help import SETTINGS


@pytest.mark.parametrize(
    ("script", "called"),
    [
        ("/usr/bin/squish", "squish"),
        ("lightning_cli.py", "python lightning_cli.py"),
        ("/x/squish_pl/__main__.py", "python -m squish_pl"),
    ],
)
def test_the_commands_with_an_example_each(script, called, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [script])
    code, out, _ = run_cli(["--help"], capsys)
    assert code == 0
    for command in ("fit", "validate", "predict", "score", "compare", "meta", "export", "app", "completion"):
        assert f"  {called} {command} " in out
    assert out.startswith(f"usage: {called} COMMAND ")


@pytest.mark.parametrize("arguments", [[], ["train"], ["--config", "smollm2.yaml"]])
def test_an_unknown_command_is_one_message(arguments, capsys):
    code, out, err = run_cli(arguments, capsys)
    assert code == 2
    assert err.count("error:") == 1
    assert "Traceback" not in out + err


def test_fit_begins_with_ten_settings_and_their_values(capsys):
    code, out, _ = run_cli(["fit", "--config", "smollm2.yaml", "--help"], capsys)
    assert code == 0
    assert len(SETTINGS) == 10
    shown = [line.split()[0].removeprefix("--") for line in out.splitlines() if line.startswith("  --")]
    assert shown == list(SETTINGS)
    assert "--model.rollout.group_size 8\n" in out
    assert "--model.rollout.budgets 10%\n" in out
    assert "--checkpoint.dirpath checkpoints/smollm2\n" in out
    code, out, _ = run_cli(["fit", "-h"], capsys)
    assert code == 0
    assert "--model.rollout.group_size 8\n" in out


def test_fit_tells_every_key_when_asked_for_all(capsys):
    code, out, _ = run_cli(["fit", "--help", "all"], capsys)
    assert code == 0
    for key in ("--model.memory.margin", "--model.learn.invalid.earns", "--trainer.max_steps", "--entropy.window"):
        assert key in out


@pytest.mark.parametrize(
    ("command", "keys"), [("score", ["--document", "--rule"]), ("compare", ["--contenders", "--rule"])]
)
def test_the_other_commands_tell_theirs(command, keys, capsys):
    code, out, _ = run_cli([command, "--help"], capsys)
    assert code == 0
    for key in keys:
        assert key in out


def test_help_for_a_file_that_is_not_yaml_is_one_message(tmp_path, capsys):
    (tmp_path / "broken.yaml").write_text("model: [\n")
    code, out, err = run_cli(["fit", "--config", str(tmp_path / "broken.yaml"), "--help"], capsys)
    assert code == 2
    assert err.count("error: ") == 1
    assert "broken.yaml" in err
    assert "Traceback" not in out + err


def test_all_is_a_value_where_no_help_is_asked_for(capsys):
    code, out, err = run_cli(["fit", "--config", "smollm2.yaml", "--data.documents", "all", "--print_config"], capsys)
    assert code == 0, err
    assert "documents: all\n" in out
