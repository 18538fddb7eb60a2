"""Keys that have moved: one message that names the new places, instead of a parser's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from squish_pl.cli.config_files import readable_configs
from squish_pl.errors import ConfigError

# of the section `model`; a key with nested ones stands for all of them
MOVED = {
    "gguf_file": "base_model.gguf_file",
    "revision": "base_model.revision",
    "dtype": "base_model.dtype",
    "attention": "base_model.attention",
    "budgets": "rollout.budgets",
    "group_size": "rollout.group_size",
    "sampling.temperature": "rollout.temperature",
    "sampling.max_new_tokens": "rollout.max_new_tokens",
    "sampling.max_rows": "memory.max_rows",
    "validation_budgets": "validation.budgets",
    "validation_temperature": "validation.temperature",
    "reward.objective": "rewards, a list: [Squish] or [SquishNovel]",
    "reward.own_information": "rewards, a list with {class_path: OwnInformation, init_args: {weight: ...}} in it",
    "reward.invalid": "learn.invalid.earns",
    "reward.invalid_margin": "learn.invalid.margin",
    "advantage": "learn.advantage",
    "clip.low": "loss, {class_path: ClippedLoss, init_args: {low: ...}}",
    "clip.high": "loss, {class_path: ClippedLoss, init_args: {high: ...}}",
    "policy_passes": "learn.policy_passes",
    "old_log_probs": "learn.old_log_probs",
    "micro_batch_tokens": "memory.micro_batch_tokens",
    "grouping": "memory.passes (shared_prefix, padded or auto)",
    "gradient_checkpointing": "memory.checkpointing",
    "compile": "memory.compile",
    "seed": "rollout.seed (set by seed_everything)",
    "base": "base_model.base",
}


def refuse_old_keys(arguments: list[str]) -> None:
    """Looks through arguments and the configurations among them.

    Raises:
        ConfigError: Some keys have moved; each is named with its new place.
    """
    found = dict.fromkeys([*_in_arguments(arguments), *_in_files(arguments)])
    if found:
        raise ConfigError(f"model.{key} is now model.{MOVED[key]}" for key in found)


def _in_arguments(arguments: list[str]) -> Iterator[str]:
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if not name.startswith("--model."):
            continue
        key = name.removeprefix("--model.").removesuffix("+")
        group = _read(value if equals else "".join(arguments[i + 1 : i + 2]))
        for flat in _flat(group, f"{key}.") if isinstance(group, dict) and group else [key]:
            yield from _moved(flat)


def _in_files(arguments: list[str]) -> Iterator[str]:
    for content in readable_configs(arguments):
        model = content.get("model")
        for key in _flat(model) if isinstance(model, dict) else ():
            yield from _moved(key)


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None  # whoever reads it in earnest will say so


def _flat(section: Mapping[Any, Any], before: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def _moved(key: str) -> Iterator[str]:
    if key in MOVED:
        yield key
    else:  # a whole group at once: model.clip: null
        yield from (old for old in MOVED if old.startswith(f"{key}."))
