"""The adapter: its settings, and PEFT adapter folders, read with a check of the base, written whole or not at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel
from transformers import PreTrainedModel

from squish_pl.errors import ModelError, first_line
from squish_pl.files import replace_folder

log = logging.getLogger(__name__)

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


def load_adapter(model: PreTrainedModel, folder: str, base_fingerprint: str, base: str | None = None) -> PeftModel:
    """Puts a saved adapter onto its base model, ready to learn on.

    Args:
        model: The base model.
        folder: A PEFT adapter folder.
        base_fingerprint: Of `model`.
        base: The base's name as users know it.

    Raises:
        ModelError: The folder is no adapter, or the adapter was made for another base.
    """
    path = Path(folder).expanduser()
    if not is_adapter_folder(path):
        raise ModelError(f"expected a PEFT adapter folder (with adapter_config.json), but {folder!r} is none")
    what = f"the adapter {folder!r}"
    training = read_training_file(path)
    check_base(training.get("base_fingerprint"), base_fingerprint, what)
    made_for = None
    try:
        made_for = PeftConfig.from_pretrained(str(path)).base_model_name_or_path
        if not training and made_for != base:
            log.warning(
                "%s names %r as its base, and this is %r: nothing but the shapes can be checked", what, made_for, base
            )
        return PeftModel.from_pretrained(model, str(path), is_trainable=True)
    except Exception as error:  # damaged files fail in many ways
        reason = first_line(error)
        raise ModelError(
            f"{what} does not fit this base model ({reason}); name the base it was trained on, "
            f"which it calls {made_for or 'by no name'!r}"
        ) from None


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
