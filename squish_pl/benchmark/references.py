"""Reference models of a benchmark: each measures by itself, one is loaded at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from transformers import PreTrainedTokenizerBase

from squish_pl import __version__
from squish_pl.benchmark.file_hash import base_files_hash
from squish_pl.benchmark.records import text_hash
from squish_pl.budget import Budget
from squish_pl.errors import ModelError
from squish_pl.lm.language_model import context_length
from squish_pl.lm.loading import PACKAGE_PREFIX, load_config, load_model, load_tokenizer, pick_dtype, resolve_base
from squish_pl.lm.tokens import count_tokens, tokenizer_hash
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document

_REMEMBERED = 100_000  # tokens of documents: a document's summaries are scored one after the other


@dataclass(frozen=True)
class Reference:
    """A model that measures information.

    Attributes:
        base: Hub id, folder, or "package:NAME".
        name: As tables show it; by default the base's or the GGUF file's.
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
    """

    base: str = "Qwen/Qwen3-1.7B-Base"
    name: Optional[str] = None
    gguf_file: Optional[str] = None
    revision: Optional[str] = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"

    @property
    def title(self) -> str:
        """Its name."""
        return self.name or model_name(self.base, self.gguf_file)

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        try:
            resolve_base(self.base)
        except ModelError as error:
            return [f"references: {error}"]
        return []

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer, loaded once.

        Raises:
            ModelError: It cannot be loaded.
        """
        return load_tokenizer(self.base, self.gguf_file, self.revision)

    def dtype_on(self, device: torch.device) -> str:
        """Name of the dtype it measures in there."""
        return str(pick_dtype(self.dtype, device)).removeprefix("torch.")

    def identity(self, settings: ScoreSettings, device: torch.device) -> str:
        """Everything that decides its scores, as text; the model need not be loaded. See `reference_identity`.

        Raises:
            ModelError: Configuration or tokenizer cannot be loaded.
        """
        files = base_files_hash(self.base, self.gguf_file)
        if files is None:  # the hub's name for exactly these files
            files = f"{self.base} {self.gguf_file} {getattr(self._config, '_commit_hash', None) or self.revision}"
        tokenizer, library = tokenizer_hash(self.tokenizer), version("transformers")
        base = f"{files} {self.dtype_on(device)}, tokenizer {tokenizer}, transformers {library}"
        return reference_identity(base, settings.template, settings.novel_ngram)

    def load(self, settings: ScoreSettings, device: torch.device) -> SquishScorer:
        """Loads the model; it is gone when nobody holds the scorer any more.

        Raises:
            ModelError: It cannot be loaded.
        """
        model = load_model(self.base, pick_dtype(self.dtype, device), self.gguf_file, self.revision)
        model.to(device)  # type: ignore[arg-type]
        template, ngram, tokens = settings.template, settings.novel_ngram, settings.batch_tokens
        return SquishScorer(FrozenModel(model), self.tokenizer, template, ngram, tokens, _REMEMBERED)

    def room_problems(
        self,
        documents: Sequence[Document],
        budgets: Sequence[Budget],
        template: ScoreTemplate,
        counter: PreTrainedTokenizerBase | None = None,
    ) -> list[str]:
        """Whether the longest document fits into the context, behind the longest summary that counts.

        Found before anything is asked: scoring comes last, when the answers are paid for.

        Args:
            documents: Of the run.
            budgets: Of the run.
            template: The frame.
            counter: The tokenizer that `max_tokens` is counted with; by default its own.
        """
        context = context_length(self._config)
        frame = count_tokens(self.tokenizer, template.render("")) + 1
        longest, text = max((count_tokens(self.tokenizer, d.text), d.text) for d in documents)
        rooms = [_room(context - frame, longest, text, budget, self.tokenizer) for budget in budgets]
        if longest <= min(rooms):
            return []
        advised = min(rooms) * count_tokens(counter or self.tokenizer, text) // longest
        return [
            f"the longest document has {longest} tokens, but the reference {self.title} has room for {min(rooms)} "
            f"beside the frame and the longest summary, in a context of {context}: set max_tokens to {advised} or less"
            if advised > 0
            else f"the frame and the longest summary leave no room for a document in the context of {self.title} "
            f"({context} tokens): take smaller budgets"
        ]

    @cached_property
    def _config(self) -> Any:
        return load_config(self.base, self.gguf_file, self.revision)


def _room(tokens: int, longest: int, text: str, budget: Budget, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of a document with its longest summary in so many tokens: a share shrinks with the document."""
    limit = budget.limit(text, tokenizer)
    summary = limit if budget.unit.counts_tokens else int(limit * longest / max(1, len(text)))
    return int(tokens * longest / max(1, longest + summary)) if budget.unit.is_share else tokens - summary


def reference_identity(base: str, template: ScoreTemplate, novel_ngram: int) -> str:
    """Everything that decides a score besides document, budget and summary: scores mix only where it is the same.

    Args:
        base: Of the reference: its files, dtype, tokenizer and library.
        template: How summary and document are framed.
        novel_ngram: Token n-grams of this length count as copied.
    """
    return f"base {base}, template {text_hash(repr(template))}, novel_ngram {novel_ngram}, squish-pl {__version__}"


def model_name(base: str, gguf_file: str | None = None) -> str:
    """A model's name for tables: the last part of its base's, or the GGUF file's."""
    return Path(gguf_file).stem if gguf_file else base.removeprefix(PACKAGE_PREFIX).rstrip("/").rpartition("/")[2]


def pick_device(device: str) -> torch.device:
    """A device by name; "auto" takes a GPU where there is one.

    Raises:
        ModelError: It cannot be used.
    """
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        return torch.empty(0, device=where).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device {where!r} cannot be used: {str(error).splitlines()[0]}") from None
