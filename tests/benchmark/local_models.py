"""Tiny local models on disk, and what a contender makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model, save_tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from squish_pl.benchmark.contenders.local import LocalModel
from squish_pl.benchmark.records import Answer, Task
from squish_pl.policy.adapter import LoraSettings, save_adapter
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.types import Document

# a random model hits one given byte now and then, so some of its summaries close, and others outgrow their budget
PROMPT = PromptTemplate(instruction="{document}\n{limit}\n", close_tag="U")
DOCUMENTS = [
    Document("The ferry left at dawn. It carried 31 passengers and a goat named Ada."),
    Document("Three councillors voted against the plan on Monday, and two of them said so at length."),
    Document("Snow fell on the pass all night."),
    Document("A chess club of nine members has bought the old bakery on Hill Street for 40,000 crowns."),
]
BUDGETS = ["60%", "30%"]


def save_models(root: Path) -> dict[str, Path]:
    """A model folder of each architecture, and two adapters for the Qwen3, by their names."""
    for architecture in ARCHITECTURES:
        save_tiny_model(architecture, root / architecture)
    for seed in (1, 2):
        backbone = Backbone(make_tiny_model("qwen3"), make_byte_tokenizer(), LoraSettings(r=4, alpha=8))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in backbone.adapter_parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
        save_adapter(backbone.model, root / f"adapter{seed}", {"base_fingerprint": backbone.fingerprint}, "")
    return {path.name: path for path in root.iterdir()}


def local(base: Path, **settings: Any) -> LocalModel:
    return LocalModel(**{"base": str(base), "prompt": PROMPT, "rows": 3, "device": "cpu", **settings})


def answers(contender: LocalModel, tasks: list[Task]) -> dict[Task, Answer]:
    """What it answers, without the seconds."""
    given = list(contender.summarise(tasks))
    assert len(given) == len(tasks)
    return {task: replace(answer, seconds=None) for task, answer in given}


def word_tokenizer(*words: str) -> PreTrainedTokenizerFast:
    """A token for each run of letters or signs; all but the words given are the same one."""
    vocab = {"?": 0} | {word: i for i, word in enumerate(words, 1)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", eos_token="</s>")
