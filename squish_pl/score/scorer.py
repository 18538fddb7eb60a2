"""The score: the share of a document's information that a summary saves.

    I(d)     = sum over the document's tokens of -ln p(token | start token, earlier document tokens)
    I(d | s) = the same sum over the same tokens, with the framed summary in front
    SQUISH   = (I(d) - I(d | s)) / I(d), or 0 for a summary longer than the budget allows

SQUISH-novel sums the savings only over document tokens that lie in no n-gram shared with the summary.
"""

from __future__ import annotations

import abc
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import ModelError, report_problems
from squish_pl.lm.halving import Limit, within
from squish_pl.lm.loading import load_model, load_tokenizer, pick_dtype
from squish_pl.lm.tokens import encode, start_token_id
from squish_pl.score.information import Row, token_information
from squish_pl.score.novelty import copied_tokens
from squish_pl.score.reference import FrozenModel, ReferenceModel
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document, Scores

CPU_BATCH_TOKENS = 1024  #: on a CPU, activations of more tokens only leave the cache: a fifth slower at 8192


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Summaries of one document to be scored under one budget; a budget of None allows any length."""

    document: Document | str
    summaries: Sequence[str | None]
    budget: Budget | str | None = None


class Scorer(abc.ABC):
    """The one interface through which training, validation, benchmark and commands score.

    Attributes:
        tokenizer: Of the (first) reference; it counts budgets in tokens.
        template: How summary and document are framed.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ScoreTemplate

    @abc.abstractmethod
    def score_batch(self, requests: Sequence[ScoreRequest], skip_over_budget: bool = True) -> list[Scores]:
        """Scores summaries of several documents; see `SquishScorer.score_batch`."""

    @abc.abstractmethod
    def information(self, texts: Sequence[str]) -> list[Tensor]:
        """For each text its tokens' information alone under the (first) reference, [T] nats, on the CPU."""

    @abc.abstractmethod
    def take_tokens(self) -> int:
        """Tokens that went through the references since the last call."""

    def score(
        self,
        document: Document | str,
        summaries: Sequence[str | None],
        budget: Budget | str | None = None,
        skip_over_budget: bool = True,
    ) -> Scores:
        """Scores summaries of one document; see `score_batch`."""
        return self.score_batch([ScoreRequest(document, summaries, budget)], skip_over_budget)[0]

    def __deepcopy__(self, memo: object) -> Scorer:
        return self  # a metric that is cloned shares the models instead of holding them twice


class SquishScorer(Scorer):
    """Scores summaries under a frozen reference.

    Args:
        reference: The frozen model; a `FrozenModel`, or the reference view of a policy's backbone.
        tokenizer: The reference's tokenizer.
        template: How summary and document are framed.
        novel_ngram: Token n-grams of this length count as copied, for SQUISH-novel.
        batch_tokens: Most tokens in one forward pass, padding included; on a CPU at most `CPU_BATCH_TOKENS`.
        cache_tokens: Documents alone are remembered up to this many tokens in all (some 40 bytes each), oldest use
            first out.

    Raises:
        TypeError: The reference is no `ReferenceModel`, such as a model whose adapter might be on.
        ConfigError: A setting is out of range.
    """

    def __init__(
        self,
        reference: ReferenceModel,
        tokenizer: PreTrainedTokenizerBase,
        template: ScoreTemplate | None = None,
        novel_ngram: int = 4,
        batch_tokens: int = 8192,
        cache_tokens: int = 1_000_000,
    ) -> None:
        if not isinstance(reference, ReferenceModel):
            raise TypeError(f"expected a frozen ReferenceModel, but got {type(reference).__name__}")
        settings = {"novel_ngram": novel_ngram, "batch_tokens": batch_tokens}
        self.template = template or ScoreTemplate()
        problems = [f"{k} must be at least 1, but got {v}" for k, v in settings.items() if v < 1]
        report_problems(problems + self.template.problems())
        self.reference = reference
        self.tokenizer = tokenizer
        self.novel_ngram = novel_ngram
        self.limit = Limit("scoring pass", "tokens", batch_tokens)
        self.cache_tokens = cache_tokens
        self.start = start_token_id(tokenizer, self.template.start_token)
        self._tokens_seen = 0
        self._alone: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._alone_tokens = 0

    @property
    def batch_tokens(self) -> int:
        """Most tokens in one forward pass now; halved where memory has run out."""
        return self.limit.value

    @classmethod
    def from_pretrained(
        cls,
        base: str,
        device: str | torch.device = "cpu",
        dtype: str = "auto",
        gguf_file: str | None = None,
        template: ScoreTemplate | None = None,
        novel_ngram: int = 4,
        batch_tokens: int = 8192,
    ) -> SquishScorer:
        """A scorer with a plain pretrained model as reference.

        Args:
            base: Hub id, folder, or "package:NAME".
            device: Where the model runs.
            dtype: "auto" (bfloat16 on a GPU, float32 on a CPU) or a dtype's name.
            gguf_file: Name of a GGUF file in the folder or package.
            template: See the class.
            novel_ngram: See the class.
            batch_tokens: See the class.

        Raises:
            ModelError: The model or its tokenizer cannot be loaded.
        """
        tokenizer = load_tokenizer(base, gguf_file)
        model = load_model(base, pick_dtype(dtype, device), gguf_file)
        return cls(FrozenModel(model.to(device)), tokenizer, template, novel_ngram, batch_tokens)  # type: ignore[arg-type]

    def __deepcopy__(self, memo: object) -> SquishScorer:
        return self  # a metric that is cloned shares the model instead of holding it twice

    def information(self, texts: Sequence[str]) -> list[Tensor]:
        """Information of texts alone, remembered between calls.

        Returns:
            For each text [T] nats per token, on the CPU.
        """
        known = self._information_alone([tuple(encode(self.tokenizer, text)) for text in texts])
        return [information.clone() for information in known]  # the caller's to change

    def score_batch(self, requests: Sequence[ScoreRequest], skip_over_budget: bool = True) -> list[Scores]:
        """Scores summaries of several documents, each (document, summary) pair in at most one forward pass.

        A summary is stripped of outer white space first. A missing (None: unparsable) or empty one scores 0, as does
        one over its budget; neither costs a forward pass, nor does a repeated one. A document without tokens holds
        no information to save: all its summaries score 0.

        Args:
            requests: Documents with their summaries and budgets.
            skip_over_budget: If false, over-budget summaries go through the model too, so that `saved` is known
                for them (their score is 0 all the same).

        Returns:
            Scores for each request, in order.

        Raises:
            BudgetError: A budget cannot be understood.
            DataError: A document with its summary does not fit into the reference's context.
            ModelError: The reference gives no finite information.
            TypeError: Summaries are one string instead of a sequence of them.
        """
        jobs = [self._prepare(request, skip_over_budget) for request in requests]
        alone = self._information_alone([job.document_ids for job in jobs])
        rows = list(dict.fromkeys(row for job in jobs for row in job.rows if row is not None))
        with_summary = dict(zip(rows, self._measure(rows), strict=True))
        return [self._finish(job, a.double(), with_summary) for job, a in zip(jobs, alone, strict=True)]

    def take_tokens(self) -> int:
        """Tokens that went through the reference since the last call."""
        tokens, self._tokens_seen = self._tokens_seen, 0
        return tokens

    def _prepare(self, request: ScoreRequest, skip_over_budget: bool) -> _Job:
        if isinstance(request.summaries, str):
            raise TypeError("expected a sequence of summaries, but got one string: put it into a list")
        text = request.document if isinstance(request.document, str) else request.document.text
        budget = None if request.budget is None else Budget.parse(request.budget)
        limit = None if budget is None else budget.limit(text, self.tokenizer)
        document_ids = tuple(encode(self.tokenizer, text))
        summaries = [None if summary is None else summary.strip() for summary in request.summaries]
        within = [
            summary is not None and (budget is None or limit is None or budget.length(summary, self.tokenizer) <= limit)
            for summary in summaries
        ]
        rows = [
            Row((self.start, *encode(self.tokenizer, self.template.render(summary))), document_ids)
            if summary and document_ids and (fits or not skip_over_budget)
            else None
            for summary, fits in zip(summaries, within, strict=True)
        ]
        return _Job(document_ids, summaries, within, rows)

    def _finish(self, job: _Job, alone: Tensor, with_summary: dict[Row, Tensor]) -> Scores:
        total = float(alone.sum())
        if not math.isfinite(total):
            raise ModelError(
                f"the reference gives a document the information {total}: try another dtype, such as float32"
            )
        saved, novel, token_saved = [], [], []
        for summary, row in zip(job.summaries, job.rows, strict=True):
            if row is None:
                # nothing said saves nothing; what was not measured is not known
                nothing = 0.0 if not summary or not job.document_ids else float("nan")
                token_saved.append(torch.full_like(alone, nothing))
                saved.append(nothing)
                novel.append(nothing)
                continue
            per_token = alone - with_summary[row].double()
            copied = copied_tokens(job.document_ids, encode(self.tokenizer, summary or ""), self.novel_ngram)
            token_saved.append(per_token)
            saved.append(float(per_token.sum()))
            novel.append(float(per_token[~copied].sum()))
        within = torch.tensor(job.within, dtype=torch.bool)
        nats = torch.tensor([saved, novel], dtype=torch.float64)
        share = torch.where(within & (total > 0), nats / (total or 1.0), torch.zeros_like(nats))
        return Scores(
            score=share[0],
            novel_score=share[1],
            saved=torch.tensor(saved, dtype=torch.float64),
            information=total,
            within_budget=within,
            token_saved=torch.stack(token_saved).float() if token_saved else torch.zeros(0, len(alone)),
        )

    def _measure(self, rows: Sequence[Row]) -> list[Tensor]:
        self._tokens_seen += sum(len(row) for row in rows)
        longest, total = max(map(len, rows), default=1), sum(map(len, rows))

        def work() -> list[Tensor]:
            on_cpu = self.reference.device.type == "cpu"
            most = min(self.limit.value, CPU_BATCH_TOKENS) if on_cpu else self.limit.value
            self.limit.take(max(longest, min(total, most)))
            return token_information(self.reference, rows, most)

        return within(self.limit, self.reference.device, work, longest, "cut documents shorter (max_tokens)")

    def _information_alone(self, documents: Sequence[tuple[int, ...]]) -> list[Tensor]:
        missing = [ids for ids in dict.fromkeys(documents) if ids and ids not in self._alone]
        fresh = dict(zip(missing, self._measure([Row((self.start,), ids) for ids in missing]), strict=True))
        found = [fresh[ids] if ids in fresh else self._alone.get(ids, torch.zeros(0)) for ids in documents]
        for ids in documents:
            if ids in fresh and ids not in self._alone:
                self._alone[ids] = fresh[ids]
                self._alone_tokens += len(ids)
            if ids in self._alone:
                self._alone.move_to_end(ids)
        while self._alone_tokens > self.cache_tokens and self._alone:
            ids, _ = self._alone.popitem(last=False)
            self._alone_tokens -= len(ids)
        return found


@dataclass(frozen=True, slots=True)
class _Job:
    """One request on its way: a row for each summary that has to go through the model."""

    document_ids: tuple[int, ...]
    summaries: list[str | None]
    within: list[bool]
    rows: list[Row | None]
