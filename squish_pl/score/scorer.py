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
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import ModelError, report_problems
from squish_pl.lm.cutting import split_sentences
from squish_pl.lm.halving import Limit, within
from squish_pl.lm.loading import BaseModel, DType
from squish_pl.lm.tokens import encode, line_end_ids
from squish_pl.score.evidence import Evidence, LogProbs, Need
from squish_pl.score.information import Row, information_behind, token_information
from squish_pl.score.measures.base import Measure, measure_problems, needs_of, row_sums
from squish_pl.score.measures.copies import Novel
from squish_pl.score.measures.savings import Squish
from squish_pl.score.reference import FrozenModel, ReferenceModel
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document, Scores

_ADVICE = "cut documents shorter (max_tokens)"
CPU_BATCH_TOKENS = 1024  #: on a CPU, activations of more tokens only leave the cache: a fifth slower at 8192


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Summaries of one document to be scored under one budget.

    Attributes:
        document: The document.
        summaries: G texts; None for what could not be parsed.
        budget: None allows any length.
        other: A document that they were not written of, for `Evidence.elsewhere`.
    """

    document: Document | str
    summaries: Sequence[str | None]
    budget: Budget | str | None = None
    other: Document | str | None = None


class Scorer(abc.ABC):
    """The one interface through which training, validation, benchmark and commands score.

    Attributes:
        tokenizer: Of the (first) reference; it counts budgets in tokens.
        template: How summary and document are framed.
        measures: What `Scores.measures` holds.
        novel_ngram: Token n-grams of this length count as copied.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ScoreTemplate
    measures: Sequence[Measure] = ()
    novel_ngram: int = 4

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
        measures: What `score_batch` measures beside SQUISH and SQUISH-novel.

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
        measures: Sequence[Measure] = (),
    ) -> None:
        if not isinstance(reference, ReferenceModel):
            raise TypeError(f"expected a frozen ReferenceModel, but got {type(reference).__name__}")
        settings = {"novel_ngram": novel_ngram, "batch_tokens": batch_tokens}
        self.template = template or ScoreTemplate()
        problems = [f"{k} must be at least 1, but got {v}" for k, v in settings.items() if v < 1]
        report_problems(problems + self.template.problems() + measure_problems(measures))
        self.reference = reference
        self.tokenizer = tokenizer
        self.novel_ngram = novel_ngram
        self.measures = tuple(measures)
        self.limit = Limit("scoring pass", "tokens", batch_tokens)
        self.cache_tokens = cache_tokens
        self.start = self.template.start_id(tokenizer)
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
        measures: Sequence[Measure] = (),
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
            measures: See the class.

        Raises:
            ModelError: The model or its tokenizer cannot be loaded, or they do not belong together.
        """
        wanted = BaseModel(base, gguf_file, dtype=cast(DType, dtype))
        tokenizer = wanted.load_tokenizer()
        reference = FrozenModel(wanted.load(device, tokenizer).to(device))  # type: ignore[arg-type]
        return cls(reference, tokenizer, template, novel_ngram, batch_tokens, measures=measures)

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
        found = self.evidence(requests, needs_of(self.measures), skip_over_budget)
        novel = Novel(self.novel_ngram)
        return [
            replace(_scores(one, novel), measures={measure.name: measure(one, found) for measure in self.measures})
            for one in found
        ]

    def evidence(
        self, requests: Sequence[ScoreRequest], needs: Collection[Need] = (), skip_over_budget: bool = True
    ) -> list[Evidence]:
        """All that measures are made of; `score_batch` makes its scores of the very same passes.

        Args:
            requests: Documents with their summaries and budgets.
            needs: What is wanted beside the savings. "support" reads each document once more, and behind it its
                summaries; "support_alone" the summaries alone; "elsewhere" each summary before another document, the
                request's `other` or the next request's, as many tokens again as the score itself; "sentences" each
                sentence by itself, alone, behind itself and behind each summary.
            skip_over_budget: See `score_batch`.

        Returns:
            Evidence for each request, in order.

        Raises:
            SquishError: See `score_batch`.
        """
        jobs = [self._prepare(request, skip_over_budget) for request in requests]
        alone = self._information_alone([job.document_ids for job in jobs])
        with_summary = self._measure_behind(job.rows for job in jobs)
        found = [_evidence(job, a.double(), with_summary) for job, a in zip(jobs, alone, strict=True)]
        if "support" in needs:
            found = [self._with_support(e, job) for e, job in zip(found, jobs, strict=True)]
        if "support_alone" in needs:
            bare = [job.summary_rows((self.start,)) for job in jobs]
            measured = self._measure_once(bare)
            log_probs = [_log_probs(job, rows, measured) for job, rows in zip(jobs, bare, strict=True)]
            found = [replace(e, support_alone=own) for e, own in zip(found, log_probs, strict=True)]
        if "elsewhere" in needs:
            shares = self._elsewhere(requests, jobs)
            found = [replace(e, elsewhere=own) for e, own in zip(found, shares, strict=True)]
        if "sentences" in needs:
            found = [replace(e, sentences=self._of_sentences(job)) for e, job in zip(found, jobs, strict=True)]
        return found

    def take_tokens(self) -> int:
        """Tokens that went through the reference since the last call."""
        tokens, self._tokens_seen = self._tokens_seen, 0
        return tokens

    def _prepare(self, request: ScoreRequest, skip_over_budget: bool) -> _Job:
        if isinstance(request.summaries, str):
            raise TypeError("expected a sequence of summaries, but got one string: put it into a list")
        text = _text(request.document)
        budget = None if request.budget is None else Budget.parse(request.budget)
        limit = None if budget is None else budget.limit(text, self.tokenizer)
        document_ids = tuple(encode(self.tokenizer, text))
        summaries = [None if summary is None else self.template.tidied(summary) for summary in request.summaries]
        within = [
            summary is not None and (budget is None or limit is None or budget.length(summary, self.tokenizer) <= limit)
            for summary in summaries
        ]
        targets = self.template.targets(self.tokenizer, document_ids, framed=True)
        rows = [
            Row((self.start, *self.template.frame_ids(self.tokenizer, summary)), targets)
            if summary and document_ids and (fits or not skip_over_budget)
            else None
            for summary, fits in zip(summaries, within, strict=True)
        ]
        summary_ids = tuple(tuple(encode(self.tokenizer, summary or "")) for summary in summaries)
        return _Job(text, document_ids, summary_ids, within, rows)

    def _with_support(self, evidence: Evidence, job: _Job) -> Evidence:
        """The likelihoods of a document's summaries behind it; it is read once for all of them."""
        rows = job.summary_rows((self.start,))
        different = list(dict.fromkeys(row.targets for row in rows if row is not None))
        nats: dict[Row, Tensor] = {}
        ending = dict.fromkeys(different, math.nan)
        if different:
            frame = (self.start, *encode(self.tokenizer, self.template.render_support(job.text)))
            ends = line_end_ids(self.tokenizer)
            longest, total = max(map(len, different)), sum(map(len, different))
            self._tokens_seen += len(frame) + total

            def work() -> tuple[list[Tensor], Tensor]:
                return information_behind(self.reference, frame, different, self._take(longest, total), ends)

            measured, ended = within(self.limit, self.reference.device, work, longest, _ADVICE)
            nats = {Row((self.start,), ids): own for ids, own in zip(different, measured, strict=True)}
            ending = dict(zip(different, (-ended.double()).tolist(), strict=True))
        ends_of = [math.nan if row is None else ending[row.targets] for row in rows]
        return replace(evidence, support=_log_probs(job, rows, nats), ending=torch.tensor(ends_of, dtype=torch.float64))

    def _elsewhere(self, requests: Sequence[ScoreRequest], jobs: Sequence[_Job]) -> list[Tensor]:
        """For each request [G], the shares of another document that its summaries save."""
        others = [tuple(encode(self.tokenizer, _text(other))) for other in _others(requests)]
        alone = self._information_alone(others)
        targets = [self.template.targets(self.tokenizer, other, framed=True) if other else () for other in others]
        rows = [job.document_rows(other) for job, other in zip(jobs, targets, strict=True)]
        measured = self._measure_behind(rows)
        return [_shares(job, own, a.double(), measured) for job, own, a in zip(jobs, rows, alone, strict=True)]

    def _of_sentences(self, job: _Job) -> Tensor:
        """[G]; see `Evidence.sentences`."""
        sentences = [tuple(encode(self.tokenizer, text)) for text in split_sentences(job.text)]
        prefixes = [None if row is None else ids for row, ids in zip(job.rows, job.summary_ids, strict=True)]
        alone = [Row((self.start,), own) for own in sentences]
        ceiling = [Row((self.start, *own), own) for own in sentences]
        behind = [[] if ids is None else [Row((self.start, *ids), own) for own in sentences] for ids in prefixes]
        measured = self._measure_once([alone, ceiling, *behind])
        least, most = (sum(float(measured[row].double().sum()) for row in rows) for rows in (ceiling, alone))
        shares = [
            (most - sum(float(measured[row].double().sum()) for row in rows)) / (most - least)
            if rows
            else (math.nan if ids else 0.0)
            for rows, ids in zip(behind, job.summary_ids, strict=True)
        ]
        return torch.tensor(shares, dtype=torch.float64)

    def _measure_once(self, rows: Iterable[Sequence[Row | None]]) -> dict[Row, Tensor]:
        different = list(dict.fromkeys(row for some in rows for row in some if row is not None))
        return dict(zip(different, self._measure(different), strict=True))

    def _measure_behind(self, rows: Iterable[Sequence[Row | None]]) -> dict[Row, Tensor]:
        """For each row [T] nats of a document behind a framed summary."""
        return {row: self.template.counted(nats, framed=True) for row, nats in self._measure_once(rows).items()}

    def _measure(self, rows: Sequence[Row]) -> list[Tensor]:
        self._tokens_seen += sum(len(row) for row in rows)
        longest, total = max(map(len, rows), default=1), sum(map(len, rows))

        def work() -> list[Tensor]:
            return token_information(self.reference, rows, self._take(longest, total))

        return within(self.limit, self.reference.device, work, longest, _ADVICE)

    def _take(self, longest: int, total: int) -> int:
        """Most tokens of one pass now, and a note of how many it will take."""
        most = min(self.limit.value, CPU_BATCH_TOKENS) if self.reference.device.type == "cpu" else self.limit.value
        self.limit.take(max(longest, min(total, most)))
        return most

    def _information_alone(self, documents: Sequence[tuple[int, ...]]) -> list[Tensor]:
        missing = [ids for ids in dict.fromkeys(documents) if ids and ids not in self._alone]
        rows = [Row((self.start,), self.template.targets(self.tokenizer, ids, framed=False)) for ids in missing]
        measured = [self.template.counted(nats, framed=False) for nats in self._measure(rows)]
        fresh = dict(zip(missing, measured, strict=True))
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

    text: str
    document_ids: tuple[int, ...]
    summary_ids: tuple[tuple[int, ...], ...]
    within: list[bool]
    rows: list[Row | None]

    def summary_rows(self, prefix: tuple[int, ...]) -> list[Row | None]:
        """The same summaries, to be measured themselves behind a prefix."""
        return [
            None if row is None or not ids else Row(prefix, ids)
            for row, ids in zip(self.rows, self.summary_ids, strict=True)
        ]

    def document_rows(self, other: tuple[int, ...]) -> list[Row | None]:
        """The same summaries before another document's targets; none before none, or before the same."""
        nothing = not other or other in [row.targets for row in self.rows if row is not None]
        return [None if row is None or nothing else Row(row.prefix, other) for row in self.rows]


def _text(document: Document | str) -> str:
    return document if isinstance(document, str) else document.text


def _others(requests: Sequence[ScoreRequest]) -> list[Document | str]:
    """For each request the document that its summaries were not written of."""
    following = [*requests[1:], *requests[:1]]
    return [next_one.document if r.other is None else r.other for r, next_one in zip(requests, following, strict=True)]


def _evidence(job: _Job, alone: Tensor, with_summary: dict[Row, Tensor]) -> Evidence:
    total = float(alone.sum())
    if not math.isfinite(total):
        raise ModelError(f"the reference gives a document the information {total}: try another dtype, such as float32")
    saved = []
    for ids, row in zip(job.summary_ids, job.rows, strict=True):
        if row is None:
            # nothing said saves nothing; what was not measured is not known
            saved.append(torch.full_like(alone, math.nan if ids else 0.0))
        else:
            saved.append(alone - with_summary[row].double())
    return Evidence(
        job.document_ids,
        alone,
        torch.stack(saved) if saved else alone.new_zeros(0, len(alone)),
        job.summary_ids,
        torch.tensor(job.within, dtype=torch.bool),
    )


def _log_probs(job: _Job, rows: Sequence[Row | None], information: dict[Row, Tensor]) -> LogProbs:
    return tuple(
        torch.full((len(ids),), math.nan, dtype=torch.float64) if row is None else -information[row].double()
        for ids, row in zip(job.summary_ids, rows, strict=True)
    )


def _shares(job: _Job, rows: Sequence[Row | None], alone: Tensor, measured: dict[Row, Tensor]) -> Tensor:
    """[G] of the other document's information that each summary saves; see `Evidence.elsewhere`."""
    shares = [
        (float((alone - measured[row].double()).sum() / alone.sum()) if row is not None else math.nan) if ids else 0.0
        for ids, row in zip(job.summary_ids, rows, strict=True)
    ]
    return torch.tensor(shares, dtype=torch.float64)


def _scores(evidence: Evidence, novel: Novel) -> Scores:
    return Scores(
        score=Squish()(evidence, ()),
        novel_score=novel(evidence, ()),
        saved=row_sums(evidence.saved),
        information=evidence.total,
        within_budget=evidence.within_budget,
        token_saved=evidence.saved.float(),
    )
