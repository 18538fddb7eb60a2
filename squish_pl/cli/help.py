"""`fit --help`: the settings that people change first; `fit --help all` is the parser's own, with every one."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from rich.console import Console

from squish_pl.callbacks import AdapterCheckpoint
from squish_pl.cli.config_files import named_configs, read_config
from squish_pl.cli.program import program
from squish_pl.data import DocumentDataModule
from squish_pl.module import SquishModule

SETTINGS = {
    "data.documents": 'what is summarised: "samples", a file, folder or glob, hub://owner/name/config, or a list',
    "data.max_tokens": "longest document in tokens; longer ones are cut",
    "data.batch_size": "documents of a round",
    "model.base_model.base": "the model that learns: a hub id, a folder, or package:NAME",
    "model.rollout.group_size": "summaries of each document in a round",
    "model.rollout.budgets": "how long they may be, drawn for each document",
    "model.rewards": "what is rewarded",
    "model.optimizer.learning_rate": "of AdamW on the adapter",
    "trainer.max_steps": "optimiser steps of the run: rounds x model.learn.policy_passes",
    "checkpoint.dirpath": "where the adapter and what a stopped run goes on from are kept",
}


def asks_for_short_help(arguments: list[str]) -> bool:
    """Whether a command is `fit` with `--help`, and not `--help all`."""
    asked = [i for i, argument in enumerate(arguments) if argument in ("--help", "-h")]
    return arguments[0] == "fit" and bool(asked) and arguments[asked[0] + 1 : asked[0] + 2] != ["all"]


def without_all(arguments: list[str]) -> list[str]:
    """Takes the `all` of `--help all` away, which the parser does not know; an `all` elsewhere is a value."""
    return [a for i, a in enumerate(arguments) if a != "all" or arguments[i - 1] not in ("--help", "-h")]


def print_fit_help(arguments: list[str]) -> None:
    """Prints the settings with their values: the defaults, or those of the configurations that are named."""
    values, console = _values(named_configs(arguments)), Console(highlight=False)
    console.print(
        f"usage: {program()} fit --config NAME [--KEY VALUE ...]\n\n"
        "Trains an adapter. The settings that people change, in a YAML file or on the command line:\n",
        markup=False,
    )
    for key, told in SETTINGS.items():
        console.print(f"  --{key} {_short(values.get(key))}\n      {told}", markup=False, soft_wrap=True)
    console.print(
        "\n--config NAME is a file, or comes along: smollm2.yaml runs on a CPU in minutes, 3090.yaml on a 24 GB GPU"
        "\n--model.warm_start.rounds 10 begins with rounds that learn the best samples (docs/learning.md)"
        "\n--model.prompt.thinking.max_tokens 256 lets the policy think before it writes"
        "\n--ckpt_path last goes on with a run that was stopped\n--print_config prints every key with its value"
        "\n--help all explains every one",
        markup=False,
        soft_wrap=True,
    )


def _values(configs: list[str]) -> Namespace:
    from lightning.pytorch import Trainer

    parser = LightningArgumentParser()
    parser.add_lightning_class_args(SquishModule, "model")
    parser.add_lightning_class_args(DocumentDataModule, "data")
    parser.add_lightning_class_args(AdapterCheckpoint, "checkpoint")
    parser.add_lightning_class_args(Trainer, "trainer")
    values = parser.get_defaults(skip_validation=True)
    values["model.rewards"] = ["Squish"]
    for path in configs:
        content = read_config(path)
        for key in SETTINGS:
            found: Any = content
            for part in key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found is not None:
                values[key] = found
    return values


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    if isinstance(value, dict):
        return str(value.get("class_path", value)).rpartition(".")[2]
    return "" if value is None else str(value)
