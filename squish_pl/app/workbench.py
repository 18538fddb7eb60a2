"""One model that scores with its adapter off and writes with it on or off, in one memory."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from squish_pl.benchmark.findings import ShownDocument, ShownSummary
from squish_pl.benchmark.report.page_documents import document_data
from squish_pl.benchmark.sentences import sentence_spans
from squish_pl.benchmark.token_spans import by_span, token_spans
from squish_pl.budget import Budget
from squish_pl.errors import DataError, ModelError
from squish_pl.lm.loading import BaseModel
from squish_pl.lm.tokens import count_tokens, encode, whole_characters
from squish_pl.policy.adapter_loading import adapter_off
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.engine import Engine
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings
from squish_pl.policy.trials import decoding_problem
from squish_pl.policy.watch import completion_text
from squish_pl.score.ensemble import make_scorer
from squish_pl.score.novelty import copied_share, copied_tokens
from squish_pl.score.scorer import SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.seeds import derive_seed
from squish_pl.types import Document, Finish

log = logging.getLogger(__name__)

_ADVICE = "shorten the document, or start with a smaller model"


@dataclass(frozen=True)
class WorkbenchSettings:
    """What is loaded, and how it is asked.

    Attributes:
        base: The model that scores, and that writes before training.
        adapter: Folder of the adapter that it writes with after training; None for a model that was not trained.
        prompt: How it is asked.
        score: How it scores.
        max_tokens: Longest document, in its tokens.
        device: Where it runs.
    """

    base: BaseModel
    adapter: str | None = None
    prompt: PromptTemplate = field(default_factory=PromptTemplate)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    max_tokens: int = 4096
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Workbench:
    """Scores summaries and writes them. Not for several threads at a time.

    Args:
        settings: What is loaded; loading takes a while.

    Raises:
        SquishError: It cannot be loaded, or cannot write.
    """

    def __init__(self, settings: WorkbenchSettings) -> None:
        self.settings = settings
        self.tokenizer = settings.base.load_tokenizer()
        model = settings.base.load(settings.device, self.tokenizer)
        backbone = Backbone(model, self.tokenizer, None, settings.adapter, settings.base.base).to(settings.device)
        backbone.requires_grad_(False)
        self.scorer: SquishScorer = make_scorer(backbone.reference, self.tokenizer, settings.score)
        self.scorer.cache_tokens = settings.max_tokens  # the last document alone: nothing is kept
        plan = MemoryPlan.for_writing(Costs(backbone), MemorySettings(max_rows=1))
        self.engine = Engine(backbone, plan, settings.prompt, passes="auto", advice=_ADVICE)
        self.engine.get_ready()
        if (problem := decoding_problem(backbone.policy)) is not None:
            raise ModelError(f"{settings.base.title} cannot be made to write here: {problem}")

    def score(self, document: str, summary: str, budget: str, name: str = "") -> dict[str, Any]:
        """What a summary saves of its document, and where.

        Args:
            document: The document.
            summary: The summary; white space around it does not count.
            budget: Its cap, such as "10%".
            name: Who wrote it.

        Returns:
            Plain values for the page's script; see `page_documents.document_data`.

        Raises:
            SquishError: One of them cannot be used; the message says why.
        """
        document, summary = self._checked(document), whole_characters(summary).strip()
        if not summary:
            raise DataError("The summary is empty: write one first.")
        cap = Budget.parse(budget)
        # an over-budget summary is measured all the same, to be seen while it is being shortened
        scores = self.scorer.score(document, [summary], cap, skip_over_budget=False)
        spans, span_of = token_spans(self.tokenizer, document)
        document_ids, summary_ids = encode(self.tokenizer, document), encode(self.tokenizer, summary)
        copied = copied_tokens(document_ids, summary_ids, self.scorer.novel_ngram)
        limit = cap.limit(document, self.tokenizer)
        used = cap.used(summary, limit, self.tokenizer)
        values = {"squish": float(scores.score[0]), "novel": float(scores.novel_score[0])}
        values |= {key: float(value[0]) for key, value in scores.measures.items()}
        shown = ShownSummary(
            contender=name,
            budget=str(cap),
            sample=0,
            text=summary,
            verdict="" if bool(scores.within_budget[0]) else f"over the budget of {cap.describe(limit)}",
            scores={key: value for key, value in values.items() if math.isfinite(value)},
            length_used=used if math.isfinite(used) else None,
            copied=copied_share(document_ids, summary_ids, self.scorer.novel_ngram),
            saved=by_span(scores.token_saved[0].tolist(), span_of, len(spans)),
            copied_spans=[count > 0 for count in by_span(copied.tolist(), span_of, len(spans))],
        )
        sentences = sentence_spans(document) or [(0, len(document))]
        title = self.settings.base.title
        return document_data(ShownDocument("", document, title, scores.information, spans, sentences, [shown]))

    def write(self, document: str, budget: str, adapted: bool) -> dict[str, str]:
        """Lets the model write a summary, the likeliest token by token.

        Args:
            document: The document.
            budget: Its cap.
            adapted: Whether with the adapter.

        Returns:
            `text`, as far as it went, and `note`, empty for a summary that was closed.

        Raises:
            SquishError: The document cannot be summarised; the message says why.
        """
        document, cap = self._checked(document), Budget.parse(budget)
        backbone, prompt = self.engine.backbone, self.settings.prompt
        asked = prompt.build(Document(document), cap, self.tokenizer)
        with nullcontext() if adapted else adapter_off(backbone.model):
            [written] = self.engine.sample([asked], 1, SamplingSettings(temperature=0.0), [derive_seed(0)])
        finish = Finish(int(written.finish[0]))
        if finish is Finish.CLOSED:
            return {"text": written.summaries[0] or "", "note": "" if written.summaries[0] else "It wrote nothing."}
        text = completion_text(self.tokenizer, written.token_ids[0][written.mask[0]].tolist())
        reasons = {
            Finish.OUTGROWN: "It outgrew its budget and was stopped.",
            Finish.ENDED: f"It ended without {prompt.close_tag}, so no summary could be read from its answer.",
            Finish.CAPPED: f"It did not come to {prompt.close_tag} in time.",
        }
        return {"text": prompt.written_so_far(text), "note": reasons[finish]}

    def _checked(self, document: str) -> str:
        document = whole_characters(document)
        if not document.strip():
            raise DataError("The document is empty: paste one, or drop a text file.")
        tokens, most = count_tokens(self.tokenizer, document), self.settings.max_tokens
        if tokens > most:
            raise DataError(
                f"The document has {tokens:,} tokens, and this page takes {most:,}: shorten it, or start the page with "
                "a larger --max_tokens."
            )
        return document
