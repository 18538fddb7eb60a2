"""The completion script, asked by a shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cli_tools import run_cli

_ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
_shtab_squish "$1" "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash on this machine")
def test_bash_completes_commands_settings_and_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    code, script, err = run_cli(["completion", "bash"], capsys)
    assert code == 0, err
    (tmp_path / "squish.bash").write_text(script)

    def completed(*words: str) -> list[str]:
        command = ["bash", "-c", _ASK, "bash", str(tmp_path / "squish.bash"), "squish", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert {"fit", "validate", "predict", "score", "compare", "meta", "export", "app"} <= set(completed(""))
    assert completed("score", "--doc") == ["--documents", "--document"]
    assert completed("score", "--rule", "") == ["mean", "min"]
    assert completed("fit", "--model.learn.advantage", "") == ["mean", "mean_std"]
    assert "--model.rollout.group_size" in completed("fit", "--model.roll")


@pytest.mark.parametrize("arguments", [[], ["fish"], ["bash", "zsh"]])
def test_an_unknown_shell_is_one_message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_cli(["completion", *arguments], capsys)
    assert code == 2
    assert "error: expected one of bash, zsh, tcsh, but got" in err
