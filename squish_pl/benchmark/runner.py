"""A run of the benchmark: asks the contenders, scores what they wrote, one model in memory at a time.

    documents x budgets x samples -> tasks -> answers -> store -> scores -> store -> rows

All that is in the store already is left alone, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.leaderboard import Row
from squish_pl.benchmark.progress import Step, step
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task
from squish_pl.benchmark.references import Reference
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, DataError, SquishError
from squish_pl.lm.cutting import cut_to_tokens
from squish_pl.lm.device import release
from squish_pl.lm.tokens import encode
from squish_pl.score.novelty import copied_tokens
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings

log = logging.getLogger(__name__)

SLIGHTLY = 0.1  #: under the original's rules, a summary up to this share longer than its budget is cut to it
_FREE_AT_A_TIME = 256  # answers that cost nothing, stored together
_SCORED_AT_A_TIME = 64  # summaries, or a little more


@dataclass(frozen=True)
class Entry:
    """A contender with what it is asked."""

    contender: Contender
    tasks: list[Task]


@dataclass
class Scored:
    """What a reference has measured.

    Attributes:
        identity: See `reference_identity`.
        scores: Of each row; None where it has no written summary, or one that does not fit the reference.
    """

    identity: str
    scores: list[ScoreRecord | None]


def check_contenders(entries: Sequence[Entry], store: Store) -> None:
    """Looks whether those that still have to be asked can work.

    Raises:
        ConfigError: Some cannot; all of them are named.
    """
    problems = []
    for entry in entries:
        if store.open_tasks(entry.contender, entry.tasks):
            try:
                entry.contender.check()
            except ConfigError as error:
                problems += [f"{entry.contender.name}: {problem}" for problem in error.problems]
            except SquishError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError(problems)


def ask(entries: Sequence[Entry], store: Store) -> None:
    """Asks every contender for what the store does not have, one contender after the other.

    Raises:
        SquishError: A contender cannot work; what was answered before is stored.
    """
    for entry in entries:
        contender = entry.contender
        left = store.open_tasks(contender, entry.tasks)
        if not left:
            continue
        try:
            with step(contender.name, len(left)) as progress:
                _store_answers(contender, left, store, progress)
        finally:
            contender.close()


def _store_answers(contender: Contender, tasks: Sequence[Task], store: Store, progress: Step) -> None:
    at_a_time = _FREE_AT_A_TIME if contender.is_free else 1
    waiting: list[tuple[Task, Answer]] = []
    answering, asked = contender.summarise(tasks), set(tasks)
    try:
        for pair in answering:
            if not (isinstance(pair, tuple) and len(pair) == 2 and pair[0] in asked and isinstance(pair[1], Answer)):
                raise SquishError(
                    f"the contender {contender.name!r} gave {pair!r:.80}: expected (task, Answer) for what it was asked"
                )
            waiting.append(pair)
            if len(waiting) >= at_a_time:
                some, waiting = waiting, []
                store.put_answers(contender, some)
                progress.advance(len(some))
    except Exception as error:
        if not isinstance(error, (SquishError, OSError)):
            log.error("the contender %r cannot go on: %s", contender.name, type(error).__name__)
        raise
    finally:
        # at once: an endpoint that is still asked goes on costing
        if isinstance(answering, Generator):
            answering.close()
        if waiting:
            store.put_answers(contender, waiting)
            progress.advance(len(waiting))


def answers(entries: Sequence[Entry], store: Store) -> list[Row]:
    """A row for each task, with its answer and without scores."""
    rows = []
    for entry in entries:
        known = store.answers(entry.contender, entry.tasks)
        name, is_baseline = entry.contender.name, entry.contender.is_baseline
        rows += [Row(name, task, known.get(task), {}, is_baseline) for task in entry.tasks]
    return rows


def as_scored(row: Row, cut: bool, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The summary of a row as it is scored; None where there is none.

    Args:
        row: A task with its answer.
        cut: Whether a summary that is slightly too long is cut to its budget: the original's rule.
        tokenizer: Counts budgets in tokens.
    """
    if row.answer is None or row.answer.outcome is not Outcome.WRITTEN or row.answer.summary is None:
        return None
    summary = row.answer.summary.strip()
    if not cut or not row.answer.complete:
        return summary
    budget = Budget.parse(row.task.budget)
    limit = budget.limit(row.task.document.text, tokenizer)
    if not limit < budget.length(summary, tokenizer) <= limit * (1 + SLIGHTLY):
        return summary
    return cut_to_tokens(summary, tokenizer, limit) if budget.unit.counts_tokens else summary[:limit].rstrip()


def score(
    reference: Reference,
    settings: ScoreSettings,
    device: torch.device,
    rows: Sequence[Row],
    store: Store,
    looked_at: Collection[str] = (),
    cut: bool = False,
) -> Scored:
    """Scores every written summary that the store has no score of, under one reference.

    Args:
        reference: The model, loaded here and gone afterwards.
        settings: Of the score.
        device: Where the model runs.
        rows: Answers.
        store: Keeps the scores.
        looked_at: Hashes of the documents whose savings on each token are kept too.
        cut: Whether summaries that are slightly too long are cut first.
    """
    identity = reference.identity(settings, device)
    keys: list[ScoreKey | None] = []
    wanted: dict[ScoreKey, tuple[Task, str]] = {}
    for row in rows:
        summary = as_scored(row, cut, reference.tokenizer)
        if summary is None:
            keys.append(None)
            continue
        key = ScoreKey.of(row.task, summary)
        keys.append(key)
        wanted[key] = (row.task, summary)
    known = store.scores(identity, wanted)
    measured = store.measured(identity) if looked_at else set()

    def is_left(key: ScoreKey) -> bool:
        if key not in known:
            return True
        return key.document in looked_at and known[key].within_budget and (key.document, key.summary) not in measured

    # a document's summaries together, since it is measured alone only once
    left = sorted(filter(is_left, wanted))
    if left:
        scorer = reference.load(settings, device)
        with step(f"scores under {reference.title}", len(left)) as progress:
            for some in _portions(left):
                found, savings = _measure_what_fits(scorer, {key: wanted[key] for key in some})
                store.put_scores(identity, found, {key: s for key, s in savings.items() if key.document in looked_at})
                for key, record in found.items():
                    known.setdefault(key, record)  # what is stored stays, and is what is shown
                progress.advance(len(some))
        del scorer
        release(device)
    return Scored(identity, [None if key is None else known.get(key) for key in keys])


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


def with_scores(rows: Sequence[Row], scored: Mapping[str, Scored]) -> list[Row]:
    """The rows with their scores, by the references' titles."""
    return [
        replace(row, scores={title: s for title, of_rows in scored.items() if (s := of_rows.scores[i]) is not None})
        for i, row in enumerate(rows)
    ]


_Measured = tuple[dict[ScoreKey, ScoreRecord], dict[ScoreKey, Tensor]]


def _measure_what_fits(scorer: SquishScorer, wanted: Mapping[ScoreKey, tuple[Task, str]]) -> _Measured:
    """Leaves out what is too long for the reference, such as a summary of very many tokens for its characters."""
    try:
        return _measure(scorer, wanted)
    except DataError as error:
        if len(wanted) == 1:
            (task, _) = next(iter(wanted.values()))
            log.warning("a summary of %r is not scored: %s", task.document.text[:40], error)
            return {}, {}
    records: dict[ScoreKey, ScoreRecord] = {}
    savings: dict[ScoreKey, Tensor] = {}
    for key, one in wanted.items():
        found, saved = _measure_what_fits(scorer, {key: one})
        records |= found
        savings |= saved
    return records, savings


def _measure(scorer: SquishScorer, wanted: Mapping[ScoreKey, tuple[Task, str]]) -> _Measured:
    """Scores, and the savings of those that were measured; the keys of a document and budget follow one another."""
    groups = [list(keys) for _, keys in groupby(wanted, key=lambda key: (key.document, key.budget))]
    requests = []
    for keys in groups:
        task, _ = wanted[keys[0]]
        requests.append(ScoreRequest(task.document, [wanted[key][1] for key in keys], task.budget))
    records, savings = {}, {}
    for keys, request, scores in zip(groups, requests, scorer.score_batch(requests), strict=True):
        text, budget = wanted[keys[0]][0].document.text, Budget.parse(keys[0].budget)
        limit, document_ids = budget.limit(text, scorer.tokenizer), encode(scorer.tokenizer, text)
        for i, (key, summary) in enumerate(zip(keys, request.summaries, strict=True)):
            length = budget.length(summary or "", scorer.tokenizer)
            copied = copied_tokens(encode(scorer.tokenizer, summary or ""), document_ids, scorer.novel_ngram)
            records[key] = ScoreRecord(
                score=float(scores.score[i]),
                novel_score=float(scores.novel_score[i]),
                within_budget=bool(scores.within_budget[i]),
                length_used=length / limit if limit else math.inf if length else 0.0,
                copied=float(copied.double().mean()) if len(copied) else 0.0,
                information=scores.information,
            )
            if records[key].within_budget:
                savings[key] = scores.token_saved[i]
    return records, savings
