"""The adapter: its settings, and PEFT adapter folders, written whole or not at all (read: see `adapter_loading`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel

from squish_pl.errors import ModelError
from squish_pl.files import replace_folder

TRAINING_FILE = "squish.json"  #: beside PEFT's own files: fingerprint of the base, settings and scores


@dataclass(frozen=True)
class LoraSettings:
    """The low-rank adapter (Hu et al. 2021, arXiv:2106.09685).

    Attributes:
        r: Rank.
        alpha: The update is scaled by alpha / r.
        dropout: On the adapter's input, in policy passes only. Above 0, sampling and training differ.
        targets: "all-linear", or names of the linear layers, separated by commas.
    """

    r: int = 32
    alpha: int = 64
    dropout: float = 0.0
    targets: str = "all-linear"

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if self.r < 1:
            found.append(f"lora.r must be at least 1, but is {self.r}")
        if self.alpha < 1:
            found.append(f"lora.alpha must be at least 1, but is {self.alpha}")
        if not 0 <= self.dropout < 1:
            found.append(f"lora.dropout must be at least 0 and below 1, but is {self.dropout}")
        return found

    def to_peft(self) -> LoraConfig:
        """The same settings as peft takes them."""
        names = [name.strip() for name in self.targets.split(",") if name.strip()]
        targets: str | list[str] = self.targets if self.targets == "all-linear" else names
        return LoraConfig(
            r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets, task_type="CAUSAL_LM"
        )


def check_base(expected: str | None, actual: str, what: str) -> None:
    """Raises ModelError where something was made for a base model with another fingerprint."""
    if expected and expected != actual:
        raise ModelError(
            f"{what} was made for another base model (fingerprint {expected}, this base has {actual}): "
            "name the base it was trained on"
        )


def is_adapter_folder(path: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (path / "adapter_config.json").is_file()


def adapter_problems(folder: str | None) -> list[str]:
    """Why a folder to start from cannot be one; nothing is wrong with none."""
    if folder is None or is_adapter_folder(Path(folder).expanduser()):
        return []
    return [f"adapter: expected a PEFT adapter folder (with adapter_config.json), but {folder!r} is none"]


def read_training_file(folder: Path) -> dict[str, Any]:
    """What squish-pl wrote beside an adapter; empty for an adapter of another origin."""
    try:
        content = json.loads((folder / TRAINING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def save_adapter(model: PeftModel, folder: Path, training: Mapping[str, Any], card: str) -> None:
    """Writes an adapter folder: weights (safetensors), PEFT's configuration, `squish.json` and a model card.

    Args:
        model: The model with its adapter.
        folder: Where to; an earlier adapter there is replaced.
        training: Plain values for `squish.json`, with "base_fingerprint".
        card: The model card (README.md), Markdown.

    Raises:
        CheckpointError: It cannot be written, such as for want of disk space.
    """

    def write(target: Path) -> None:
        model.save_pretrained(str(target), save_embedding_layers=False)
        (target / TRAINING_FILE).write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
        (target / "README.md").write_text(card, encoding="utf-8")

    replace_folder(folder, write)
