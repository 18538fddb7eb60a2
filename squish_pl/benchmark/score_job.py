"""Scoring under a reference, in portions, each by the process that has claimed it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from squish_pl.benchmark.crew import Job, Portions
from squish_pl.benchmark.leaderboard import Row
from squish_pl.benchmark.progress import step
from squish_pl.benchmark.records import ScoreRecord, text_hash
from squish_pl.benchmark.references import Reference
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.budget import Budget
from squish_pl.errors import DataError
from squish_pl.lm.device import release
from squish_pl.lm.tokens import encode
from squish_pl.score.ensemble import load_scorer
from squish_pl.score.novelty import copied_share
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.types import Document

log = logging.getLogger(__name__)

_SCORED_AT_A_TIME = 64  # summaries, or a little more


class ScoreJob(Job):
    """Scoring under one reference.

    Args:
        reference: The model, loaded for the first portion.
        identity: Its `identity`.
        wanted: What is to be scored.
        settings: Of the score.
        device: Where the model runs.
        store: Keeps the scores.
        looked_at: Hashes of the documents whose savings are kept.
        others: The document beside which each one's summaries are laid, by its hash, where a measure needs it.
    """

    def __init__(
        self,
        reference: Reference,
        identity: str,
        wanted: Mapping[ScoreKey, Row],
        settings: ScoreSettings,
        device: torch.device,
        store: Store,
        looked_at: frozenset[str],
        others: Mapping[str, Document],
    ) -> None:
        self.reference, self.identity, self.wanted = reference, identity, wanted
        self.settings, self.device, self.store = settings, device, store
        self.looked_at, self.others = looked_at, others
        # a document's summaries together, since it is measured alone only once
        self.keys = sorted(wanted)
        self.title = f"scores under {reference.title}"
        self.name = f"scores {text_hash(json.dumps([identity, self.keys, sorted(looked_at)]))}"
        self._known: dict[ScoreKey, ScoreRecord] = {}

    def left(self) -> list[int]:
        """Summaries without a score, and those without the savings that are looked at."""
        self._known = self.store.scores(self.identity, self.keys)
        left = self._left(self.keys, self._known)
        return [place for place, key in enumerate(self.keys) if key in left]

    def deal(self, items: list[int]) -> list[list[int]]:
        """Whole documents."""
        places = {self.keys[place]: place for place in items}
        return [[places[key] for key in some] for some in _portions(list(places))]

    def work(self, portions: Portions) -> None:
        """Scores, portion by portion."""
        with step(self.title, portions.left) as progress:
            for portion in portions:
                keys = [self.keys[place] for place in portion.items]
                left = self._left(keys, self.store.scores(self.identity, keys))
                self._score([key for key in keys if key in left])
                portions.done(portion)
                progress.advance(len(keys))
        self.__dict__.pop("_scorer", None)
        release(self.device)

    def scores(self) -> dict[ScoreKey, ScoreRecord]:
        """All that are kept in the end: what was stored first stays, and is what is shown."""
        return self._known | self.store.scores(self.identity, self.wanted.keys() - self._known.keys())

    @cached_property
    def _scorer(self) -> SquishScorer:
        return load_scorer(self.reference, self.settings, self.device)

    def _score(self, keys: Sequence[ScoreKey]) -> None:
        found = _measure_what_fits(self._scorer, {key: self.wanted[key] for key in keys}, self.others) if keys else {}
        kept = {k: m.savings for k, m in found.items() if k.document in self.looked_at and m.score.within_budget}
        self.store.put_scores(self.identity, {key: one.score for key, one in found.items()}, kept)

    def _left(self, keys: Sequence[ScoreKey], known: Mapping[ScoreKey, ScoreRecord]) -> set[ScoreKey]:
        looked_at = {key.document for key in keys if key.document in self.looked_at}
        measured = self.store.measured(self.identity, looked_at)
        return {
            key
            for key in keys
            if key not in known
            or (key.document in looked_at and known[key].within_budget and (key.document, key.summary) not in measured)
        }


def _portions(keys: Sequence[ScoreKey]) -> Iterator[list[ScoreKey]]:
    """Whole documents, so that a stopped run, going on, measures each beside the same others to the last digit."""
    some: list[ScoreKey] = []
    for _, own in groupby(keys, key=lambda key: key.document):
        some += own
        if len(some) >= _SCORED_AT_A_TIME:
            yield some
            some = []
    if some:
        yield some


class _Measured(NamedTuple):
    """A summary's score, and the [T] nats it saves on each token, NaN where it was not measured."""

    score: ScoreRecord
    savings: Tensor


def _measure_what_fits(
    scorer: SquishScorer, wanted: Mapping[ScoreKey, Row], others: Mapping[str, Document]
) -> dict[ScoreKey, _Measured]:
    """Leaves out what is too long for the reference, such as a summary of very many tokens for its characters."""
    try:
        return _measure(scorer, wanted, others)
    except DataError as error:
        if len(wanted) == 1:
            (row,) = wanted.values()
            log.warning("a summary of %r is not scored: %s", row.task.document.text[:40], error)
            return {}
    found: dict[ScoreKey, _Measured] = {}
    for key, row in wanted.items():
        found |= _measure_what_fits(scorer, {key: row}, others)
    return found


def _measure(
    scorer: SquishScorer, wanted: Mapping[ScoreKey, Row], others: Mapping[str, Document]
) -> dict[ScoreKey, _Measured]:
    """Scores; the keys of a document and budget follow one another."""
    groups = [list(keys) for _, keys in groupby(wanted, key=lambda key: (key.document, key.budget))]
    requests = []
    for keys in groups:
        task = wanted[keys[0]].task
        other = others.get(keys[0].document)
        requests.append(ScoreRequest(task.document, [wanted[key].text for key in keys], task.budget, other))
    found = {}
    for keys, request, scores in zip(groups, requests, scorer.score_batch(requests), strict=True):
        text, budget = wanted[keys[0]].task.document.text, Budget.parse(keys[0].budget)
        limit, document_ids = budget.limit(text, scorer.tokenizer), encode(scorer.tokenizer, text)
        for i, (key, summary) in enumerate(zip(keys, request.summaries, strict=True)):
            summary_ids = encode(scorer.tokenizer, summary or "")
            record = ScoreRecord(
                score=float(scores.score[i]),
                novel_score=float(scores.novel_score[i]),
                within_budget=bool(scores.within_budget[i]),
                length_used=budget.used(summary or "", limit, scorer.tokenizer),
                copied=copied_share(document_ids, summary_ids, scorer.novel_ngram),
                information=scores.information,
                measures={name: float(values[i]) for name, values in scores.measures.items()},
            )
            found[key] = _Measured(record, scores.token_saved[i])
    return found
