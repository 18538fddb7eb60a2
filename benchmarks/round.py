"""A whole round of our trainer with lengths that are known: exactly P tokens in every prompt, C in every completion."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from common import PRINTABLE
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

import squish_pl.data
from squish_pl import SquishModule
from squish_pl.budget import Budget
from squish_pl.lm.cutting import cut_to_tokens
from squish_pl.lm.tokens import encode_markup
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.plan import MemorySettings
from squish_pl.policy.memory.tracker import AllocationTracker
from squish_pl.policy.passes import PassesName
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.optimizer import make_optimizer
from squish_pl.rl.phases import PHASES
from squish_pl.rl.rewards import GroupRewards
from squish_pl.types import Document, DocumentBatch, Prompt, Rollouts, Scores

TEMPLATE = PromptTemplate(close_tag="<<<never written>>>")
BUDGET = Budget.parse("999999 chars")  # never outgrown
PARTS = (*PHASES, "cpu")  # CPU time tells of a busy machine: where it is far below the round's, others took their turns


class RoundModule(SquishModule):
    """Our module without a trainer around it: `run` is one whole `training_step`.

    Args:
        group: G, completions of a document.
        completion: C, tokens each.
        settings: Further ones of `SquishModule`.
    """

    def __init__(self, group: int, completion: int, **settings: Any) -> None:
        rollout = RolloutSettings(budgets=[str(BUDGET)], group_size=group, max_new_tokens=completion)
        super().__init__(prompt=TEMPLATE, rollout=rollout, **settings)

    def set_backbone(self, backbone: Backbone, device: torch.device | None = None) -> None:
        """Takes a backbone; from now on no token of its tokenizer ends a completion."""
        super().set_backbone(backbone, device)
        self.tokenizer.eos_token = None
        self.to(backbone.device)
        self._adamw, self._schedule = make_optimizer(backbone.adapter_parameters(), self.optimizer)

    @property
    def _optimizer(self) -> Any:  # what the module uses of Lightning's wrapper, which works under a trainer only
        return SimpleNamespace(optimizer=self._adamw, step=self._adamw.step, param_groups=self._adamw.param_groups)

    def lr_schedulers(self) -> LambdaLR:
        """The warm-up schedule."""
        return self._schedule

    def sample(self, prompts: Sequence[Prompt]) -> list[Rollouts]:
        """Completions as sampled, each of them a summary as a whole."""
        return [replace(g, summaries=texts(self.tokenizer, g.token_ids)) for g in super().sample(prompts)]

    def judge(self, groups: Sequence[Rollouts], scores: Sequence[Scores]) -> list[GroupRewards]:
        """The rewards; also checks that nothing was cut short."""
        if any(g.token_ids.shape[1] != self.rollout.max_new_tokens or not g.mask.all() for g in groups):
            raise SystemExit("a completion ended early: the rounds cannot be compared")
        return super().judge(groups, scores)

    def run(self, batch: DocumentBatch, counted: bool = False) -> dict[str, float]:
        """One round.

        Args:
            batch: Its documents.
            counted: On a CPU, count the tensors on the way, which takes time of its own.

        Returns:
            Seconds of the "round" and of each phase, of "cpu" the process was given, and "peak_gb": allocated on a GPU;
            on a CPU what was held beyond what was there before, where it was counted.
        """
        start, cpu = time.perf_counter(), time.process_time()
        tracker = AllocationTracker() if counted and self.device.type == "cpu" else None
        with tracker or nullcontext():
            self.training_step(batch, 0)  # its clock waits for the GPU
        seconds = {"round": time.perf_counter() - start, "cpu": time.process_time() - cpu, **self.clock.seconds}
        if self.figures["reward/zero_spread"]:
            raise SystemExit("a group's rewards were all equal, so its passes were skipped: try a longer completion")
        peak = max(self.clock.peak_bytes.values(), default=tracker.peak if tracker else 0)
        return {**seconds, "peak_gb": peak / 1e9}


def make_module(
    backbone: Backbone, way: PassesName, group: int, completion: int, passes: int, **memory: Any
) -> RoundModule:
    """A module for a backbone; several may share one.

    Args:
        backbone: The model.
        way: How groups run through it.
        group: G, completions of a document.
        completion: C, tokens each.
        passes: K, optimiser steps a round.
        memory: Further settings of the memory plan.
    """
    learn = LearnSettings(policy_passes=passes)
    module = RoundModule(group, completion, learn=learn, memory=MemorySettings(passes=way, **memory))
    module.set_backbone(backbone)
    return module


def make_batches(tokenizer: PreTrainedTokenizerBase, rounds: int, documents: int, prompt: int) -> list[DocumentBatch]:
    """Documents for some rounds, all different, whose prompts have exactly `prompt` tokens."""
    source = _documents(tokenizer, prompt)
    return [DocumentBatch([next(source) for _ in range(documents)]) for _ in range(rounds)]


def _documents(tokenizer: PreTrainedTokenizerBase, prompt: int) -> Iterator[Document]:
    """Pieces of the sample articles, which are taken for one text that goes round and round."""
    room = prompt - len(TEMPLATE.build(Document(""), BUDGET, tokenizer).token_ids)
    if room < 1:
        raise SystemExit(f"a prompt takes {prompt - room} tokens beside its document: --prompt must be above that")
    file = Path(squish_pl.data.__file__).parent / "samples" / "train.jsonl"
    words = " ".join(json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()).split()
    for start in count(step=97):
        first = start % len(words)
        ring = words[first:] + words[:first]
        text = " ".join(ring * (1 + room // len(ring)))  # a word is at least a token
        built = TEMPLATE.build(Document(cut_to_tokens(text, tokenizer, room), str(start)), BUDGET, tokenizer)
        # others tokenise the prompt's text as a whole: it must come to the same tokens
        if len(built.token_ids) == prompt and encode_markup(tokenizer, built.text) == list(built.token_ids):
            yield built.document


def texts(tokenizer: PreTrainedTokenizerBase, token_ids: Tensor) -> list[str | None]:
    """The completions [G, C] as texts; random weights of a larger vocabulary write tokens the tokenizer lacks."""
    plain = PRINTABLE if len(tokenizer) < 300 else len(tokenizer)  # a byte tokenizer's first ones are letters and signs
    return [str(text) for text in tokenizer.batch_decode(token_ids % plain, skip_special_tokens=True)]


def summarise(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median, least and most seconds of whole rounds and medians of the parts, but for the first; the most memory."""
    peak = max(r["peak_gb"] for r in rounds)
    rounds = rounds[1:]
    wholes = [r["round"] for r in rounds]
    whole = {"median_s": statistics.median(wholes), "min_s": min(wholes), "max_s": max(wholes)}
    parts = {f"{part}_s": statistics.median(r[part] for r in rounds) for part in PARTS}
    return {**whole, **parts, "peak_gb": peak}


def report_parts(results: Mapping[str, Mapping[str, float]]) -> None:
    """Prints the median seconds of each phase, and of CPU time."""
    table = Table(title="median seconds", title_justify="left")
    table.add_column("way")
    for part in PARTS:
        table.add_column(part, justify="right")
    for name, figures in results.items():
        table.add_row(name, *(f"{figures[f'{part}_s']:.2f}" for part in PARTS))
    Console().print(table)
