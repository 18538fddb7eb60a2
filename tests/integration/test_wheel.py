"""A wheel, built and installed away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cli_tools import tiny_arguments

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("squish_pl", "configs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout: building leaves files behind."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("wheel")
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / "src" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / "src" / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "src"))
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_carries_all_that_the_package_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
        assert "squish = squish_pl.cli.main:main" in content.read(entry_points).decode()
        for config in (ROOT / "configs").iterdir():
            assert content.read(f"squish_pl/configs/{config.name}") == config.read_bytes()
    package = ROOT / "squish_pl"
    read = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.relative_to(ROOT).as_posix() for path in read} <= names
    assert not [name for name in names if name.startswith(("tests/", "configs/", "benchmarks/"))]


@pytest.mark.slow
def test_an_installed_wheel_trains_in_an_empty_folder(wheel: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    target, empty = tmp_path / "target", tmp_path / "empty"
    empty.mkdir()
    _pip("install", "--no-deps", "--no-build-isolation", "--target", str(target), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def squish(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(target / "bin" / "squish"), *arguments]
        return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=300)

    where = [sys.executable, "-c", "import squish_pl; print(squish_pl.__file__)"]
    found = subprocess.run(where, cwd=empty, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == target / "squish_pl" / "__init__.py"

    done = squish("fit", *tiny_arguments(tiny_model_folder, tmp_path))  # --config smollm2.yaml on the sample articles
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best" / "adapter_model.safetensors").is_file()
    assert not list(empty.iterdir())

    # a configuration of the same name here comes first
    (empty / "configs").mkdir()
    (empty / "configs" / "smollm2.yaml").write_text("model: {rollout: {group_size: 1}}\n")
    done = squish("fit", "--config", "smollm2.yaml", "--trainer.max_steps=1")
    assert done.returncode == 2
    assert "rollout.group_size must be at least 2, but is 1" in done.stderr
    done = squish("fit", "--config", "none.yaml")
    assert done.returncode == 2
    for name in ("3090.yaml", "benchmark.yaml", "smollm2.yaml"):
        assert name in done.stderr
