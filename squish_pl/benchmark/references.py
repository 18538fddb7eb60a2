"""Reference models of a benchmark: each measures by itself, one is loaded at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, Optional

import torch
from transformers import PreTrainedTokenizerBase

from squish_pl import __version__
from squish_pl.benchmark.file_hash import base_files_hash
from squish_pl.benchmark.records import text_hash
from squish_pl.budget import Budget
from squish_pl.errors import ModelError
from squish_pl.lm.language_model import context_length
from squish_pl.lm.loading import BaseModel
from squish_pl.lm.tokens import count_tokens, tokenizer_hash
from squish_pl.score.measures.base import needs_of
from squish_pl.score.settings import ScoreSettings
from squish_pl.types import Document


@dataclass(frozen=True)
class Reference(BaseModel):
    """A model that measures information.

    Attributes:
        base: Hub id, folder, or "package:NAME".
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        attention: transformers' attn_implementation; "eager" for models without sdpa, such as Gemma 2.
        name: As tables show it; by default the base's or the GGUF file's.
    """

    name: Optional[str] = None

    @property
    def title(self) -> str:
        """Its name."""
        return self.name or super().title

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        return [f"references: {problem}" for problem in super().problems()]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer, loaded once.

        Raises:
            ModelError: It cannot be loaded.
        """
        return self.load_tokenizer()

    @cached_property
    def _config(self) -> Any:
        return self.load_config()

    def identity(self, settings: ScoreSettings, device: torch.device, documents: Sequence[Document] = ()) -> str:
        """Everything that decides its scores besides document, budget and summary, as text.

        Scores mix only where it is the same. The model need not be loaded.

        Args:
            settings: Of the score.
            device: Where the model runs.
            documents: Of the run, in order: a measure may lay a summary beside the next of them.

        Raises:
            ModelError: Configuration or tokenizer cannot be loaded.
        """
        files = base_files_hash(self.base, self.gguf_file)
        if files is None:  # the hub's name for exactly these files
            files = f"{self.base} {self.gguf_file} {getattr(self._config, '_commit_hash', None) or self.revision}"
        facts = [
            f"base {files} {dtype_name(self, device)}",
            *([] if self.attention == "sdpa" else [f"attention {self.attention}"]),
            f"tokenizer {tokenizer_hash(self.tokenizer)}",
            f"transformers {version('transformers')}",
            f"template {text_hash(repr(settings.template))}",
            f"novel_ngram {settings.novel_ngram}",
            f"squish-pl {__version__}",
            *_measure_facts(settings, documents),
        ]
        return ", ".join(facts)

    def room_problems(
        self,
        documents: Sequence[Document],
        budgets: Sequence[Budget],
        settings: ScoreSettings,
        counter: PreTrainedTokenizerBase,
    ) -> list[str]:
        """Whether the longest document fits into the context, behind the longest summary that counts.

        Found before anything is asked: scoring comes last, when the answers are paid for.

        Args:
            documents: Of the run.
            budgets: Of the run.
            settings: Of the score.
            counter: The tokenizer that `max_tokens` is counted with.
        """
        context = context_length(self._config)
        frames = [len(settings.template.frame_ids(self.tokenizer, ""))]
        if "support" in needs_of(settings.measures):
            frames.append(count_tokens(self.tokenizer, settings.template.render_support("")))
        frame = max(frames) + 1
        longest, text = max((count_tokens(self.tokenizer, d.text), d.text) for d in documents)
        room = min(_room(context - frame, longest, text, budget, self.tokenizer) for budget in budgets)
        if longest <= room:
            return []
        advised = room * count_tokens(counter, text) // longest
        return [
            f"the longest document has {longest} tokens, but the reference {self.title} has room for {room} "
            f"beside the frame and the longest summary, in a context of {context}: set max_tokens to {advised} or less"
            if advised > 0
            else f"the frame and the longest summary leave no room for a document in the context of {self.title} "
            f"({context} tokens): take smaller budgets"
        ]


def _measure_facts(settings: ScoreSettings, documents: Sequence[Document]) -> list[str]:
    """What decides the measures; nothing without any, so that scores kept before there were measures stay known."""
    needs = needs_of(settings.measures)
    return [
        *(f"measure {name}" for name in sorted(measure.name for measure in settings.measures)),
        *([f"support {text_hash(settings.template.support_frame)}"] if "support" in needs else []),
        *([f"documents {text_hash(' '.join(text_hash(d.text) for d in documents))}"] if "elsewhere" in needs else []),
    ]


def _room(tokens: int, longest: int, text: str, budget: Budget, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of a document with its longest summary in so many tokens: a share shrinks with the document."""
    limit = budget.limit(text, tokenizer)
    summary = limit if budget.unit.counts_tokens else int(limit * longest / max(1, budget.length(text)))
    return int(tokens * longest / max(1, longest + summary)) if budget.unit.is_share else tokens - summary


def dtype_name(model: BaseModel, device: torch.device) -> str:
    """Of the dtype that a model has on a device: "float32"."""
    return str(model.dtype_on(device)).removeprefix("torch.")


def pick_device(device: str, environment: Mapping[str, str] = os.environ) -> torch.device:
    """A device by name; "auto" takes a GPU where there is one.

    Of several GPUs, the processes of one command each take their own.

    Args:
        device: Its name.
        environment: Where torchrun or SLURM say which of its machine's processes this is.

    Raises:
        ModelError: It cannot be used.
    """
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    local_rank = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", ""))
    if where == "cuda" and local_rank.isdigit() and torch.cuda.device_count():
        where = f"cuda:{int(local_rank) % torch.cuda.device_count()}"
    try:
        return torch.empty(0, device=where).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device {where!r} cannot be used: {str(error).splitlines()[0]}") from None
