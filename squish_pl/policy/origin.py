"""What an adapter's folder tells of the policy: its base, and how it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from squish_pl.errors import ConfigError
from squish_pl.lm.loading import BaseModel, DType
from squish_pl.policy.prompts import PromptTemplate


def trained_base(
    training: Mapping[str, Any],
    base: str | None = None,
    gguf_file: str | None = None,
    revision: str | None = None,
    dtype: DType = "auto",
) -> BaseModel:
    """The base model that is named, or that the adapter was trained on.

    Args:
        training: What stands in the adapter's folder; see `read_training_file`.
        base: Hub id, folder, or "package:NAME"; None for the adapter's own.
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: Of the weights.

    Raises:
        ConfigError: Neither says it.
    """
    if base is None and not isinstance(training.get("base"), str):
        raise ConfigError(["base: the adapter's folder does not say what it was trained on (no squish.json): name it"])
    if base is None:
        base, gguf_file = str(training["base"]), gguf_file or training.get("gguf_file")
        revision = revision or training.get("revision")
    return BaseModel(base, gguf_file, revision, dtype)


def trained_prompt(training: Mapping[str, Any]) -> PromptTemplate:
    """How the policy was asked; adapters that were saved before this was kept are taken to be asked by default.

    Raises:
        ConfigError: What stands there makes no prompt.
    """
    try:
        return PromptTemplate(**training.get("prompt", {}))
    except TypeError:
        raise ConfigError(["prompt: squish.json of the adapter cannot be read: give the prompt's settings"]) from None
