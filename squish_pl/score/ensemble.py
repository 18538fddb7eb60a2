"""Several references behind the scorer's interface: each measures, and a rule makes one score of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.lm.device import release
from squish_pl.lm.loading import BaseModel
from squish_pl.score.reference import FrozenModel, ReferenceModel
from squish_pl.score.scorer import Scorer, ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.types import Scores

Rule = Literal["mean", "min"]


@dataclass(frozen=True)
class ReferenceSettings:
    """The references of a run.

    In training the first one is always the policy's own backbone with its adapter off.

    Attributes:
        others: Models that measure beside the first.
        rule: How one score is made of theirs: "mean", or "min", the score that no reference falls below.
        offload: Keep the others in the CPU's memory, and bring each to the device only while it measures.
    """

    others: list[BaseModel] = field(default_factory=list)
    rule: Rule = "mean"
    offload: bool = False

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        return [f"reference.others: {problem}" for model in self.others for problem in model.problems()]

    def scorer(self, first: SquishScorer, settings: ScoreSettings, device: torch.device) -> Scorer:
        """The first scorer, or an ensemble of it and the others, which are loaded here.

        Raises:
            ModelError: One of the others cannot be loaded.
        """
        if not self.others:
            return first
        others = [load_scorer(model, settings, "cpu" if self.offload else device) for model in self.others]
        return EnsembleScorer([first, *others], self.rule, device if self.offload else None)


class EnsembleScorer(Scorer):
    """Scores under several references.

    SQUISH, SQUISH-novel and the measures are combined by the rule, summary by summary. What counts tokens is of the
    first reference: budgets in tokens, `information`, `saved` and `token_saved`.

    Args:
        scorers: One for each reference, each with its own tokenizer and the same frame.
        rule: See `combine`.
        device: Where each frozen model is brought while it measures; None leaves them where they are.
    """

    def __init__(self, scorers: Sequence[SquishScorer], rule: Rule, device: torch.device | None = None) -> None:
        if not scorers:
            raise ValueError("expected at least one scorer")
        self.scorers, self.rule = list(scorers), rule
        self.tokenizer: PreTrainedTokenizerBase = scorers[0].tokenizer
        self.template, self.measures = scorers[0].template, scorers[0].measures
        self.novel_ngram = scorers[0].novel_ngram
        self._device = device

    def score_batch(self, requests: Sequence[ScoreRequest], skip_over_budget: bool = True) -> list[Scores]:
        """See `SquishScorer.score_batch`."""
        with self._brought(self.scorers[0].reference):
            first = self.scorers[0].score_batch(requests, skip_over_budget)
        measured = [first]
        for scorer in self.scorers[1:]:
            with self._brought(scorer.reference):
                measured.append(scorer.score_batch(within_budget(requests, first)))
        return [self._combined(scores) for scores in zip(*measured, strict=True)]

    def information(self, texts: Sequence[str]) -> list[Tensor]:
        """See `SquishScorer.information`."""
        with self._brought(self.scorers[0].reference):
            return self.scorers[0].information(texts)

    def take_tokens(self) -> int:
        """See `SquishScorer.take_tokens`."""
        return sum(scorer.take_tokens() for scorer in self.scorers)

    def _combined(self, scores: Sequence[Scores]) -> Scores:
        return replace(
            scores[0],
            score=combine(torch.stack([s.score for s in scores]), self.rule),
            novel_score=combine(torch.stack([s.novel_score for s in scores]), self.rule),
            measures={
                name: combine(torch.stack([s.measures[name] for s in scores]), self.rule) for name in scores[0].measures
            },
        )

    @contextmanager
    def _brought(self, reference: ReferenceModel) -> Iterator[None]:
        if self._device is None or not isinstance(reference, FrozenModel) or reference.device == self._device:
            yield
            return
        home = reference.device
        reference.to(self._device)
        try:
            yield
        finally:
            reference.to(home)
            release(self._device)


def within_budget(requests: Sequence[ScoreRequest], scores: Sequence[Scores]) -> list[ScoreRequest]:
    """The same for another reference, without a budget: what the first one's count found too long is left out."""
    return [
        ScoreRequest(r.document, [x if ok else None for x, ok in zip(r.summaries, s.within_budget, strict=True)])
        for r, s in zip(requests, scores, strict=True)
    ]


def combine(scores: Tensor, rule: Rule) -> Tensor:
    """One score of several references': [M, ...] -> [...]."""
    return scores.mean(dim=0) if rule == "mean" else scores.min(dim=0).values


def load_scorer(model: BaseModel, settings: ScoreSettings, device: torch.device | str) -> SquishScorer:
    """A scorer with a plain pretrained model as its reference.

    Raises:
        ModelError: It cannot be loaded.
    """
    tokenizer = model.load_tokenizer()
    reference = FrozenModel(model.load(device, tokenizer).to(device))  # type: ignore[arg-type]
    return make_scorer(reference, tokenizer, settings)


def make_scorer(reference: ReferenceModel, tokenizer: PreTrainedTokenizerBase, settings: ScoreSettings) -> SquishScorer:
    """A scorer of a reference that is there already, under a run's settings."""
    return SquishScorer(
        reference, tokenizer, settings.template, settings.novel_ngram, settings.batch_tokens, measures=settings.measures
    )
