"""A run of the benchmark: asks the contenders, scores what they wrote, one model in memory at a time.

    documents x budgets x samples -> tasks -> answers -> store -> rows -> scores -> store -> rows

All that is in the store already is left alone, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.leaderboard import Row
from squish_pl.benchmark.original_rules import is_shortened, shortened
from squish_pl.benchmark.progress import Step, step
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task, text_hash
from squish_pl.benchmark.references import Reference
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, DataError, SquishError
from squish_pl.lm.device import release
from squish_pl.lm.tokens import encode
from squish_pl.score.ensemble import load_scorer
from squish_pl.score.measures.base import needs_of
from squish_pl.score.novelty import copied_share
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.types import Document

log = logging.getLogger(__name__)

_FREE_AT_A_TIME = 256  # answers that cost nothing, stored together
_SCORED_AT_A_TIME = 64  # summaries, or a little more


Asked = Mapping[Contender, Sequence[Task]]  #: contenders with what they are asked


def check_contenders(asked: Asked, store: Store) -> None:
    """Looks whether those that still have to be asked can work.

    Raises:
        ConfigError: Some cannot; all of them are named.
    """
    problems = []
    for contender, tasks in asked.items():
        if store.open_tasks(contender, tasks):
            try:
                contender.check()
            except ConfigError as error:
                problems += [f"{contender.name}: {problem}" for problem in error.problems]
            except SquishError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError(problems)


def ask(asked: Asked, store: Store) -> None:
    """Asks every contender for what the store does not have, one contender after the other.

    Raises:
        SquishError: A contender cannot work; what was answered before is stored.
    """
    for contender, tasks in asked.items():
        left = store.open_tasks(contender, tasks)
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


def answers(asked: Asked, store: Store, cut: PreTrainedTokenizerBase | None = None) -> list[Row]:
    """A row for each task, with its answer and without scores.

    Args:
        asked: Contenders with their tasks.
        store: Has the answers.
        cut: See `scored_text`.
    """
    rows = []
    for contender, tasks in asked.items():
        known = store.answers(contender, tasks)
        for task in tasks:
            answer = known.get(task)
            text = scored_text(task, answer, cut)
            rows.append(Row(contender.name, task, answer, {}, contender.is_baseline, text, contender.is_attack))
    return rows


def scored_text(task: Task, answer: Answer | None, cut: PreTrainedTokenizerBase | None = None) -> str | None:
    """A summary as every reference scores it; None where there is none.

    Args:
        task: What was asked.
        answer: What came of it.
        cut: Counts budgets in tokens, as all references do; the original's rules hold then, by which white space around
            a summary counts, and one that is too long is cut. None leaves it as it is, but for the white space.
    """
    if answer is None or answer.outcome is not Outcome.WRITTEN or answer.summary is None:
        return None
    if cut is None:
        return answer.summary.strip()
    budget = Budget.parse(task.budget)
    limit = budget.limit(task.document.text, cut)
    if not answer.complete or not is_shortened(budget.length(answer.summary, cut), limit):
        return answer.summary
    return shortened(answer.summary, limit, budget, cut)


def score(
    rows: Sequence[Row],
    reference: Reference,
    identity: str,
    settings: ScoreSettings,
    device: torch.device,
    store: Store,
    looked_at: Collection[str] = (),
    documents: Sequence[Document] = (),
) -> list[Row]:
    """Scores every written summary that the store has no score of, under one reference.

    Args:
        rows: Answers, with the texts to be scored.
        reference: The model, loaded here and gone afterwards.
        identity: Its `identity`.
        settings: Of the score.
        device: Where the model runs.
        store: Keeps the scores.
        looked_at: Hashes of the documents whose savings on each token are kept too.
        documents: Different ones, in order, all of the rows' among them: where a measure needs another document beside
            a summary's own, it is the next of these, the first one for the last. Needed then alone.

    Returns:
        The rows with the scores; a summary that does not fit the reference gets none.
    """
    keys = [None if row.text is None else ScoreKey.of(row.task, row.text) for row in rows]
    wanted = {key: row for key, row in zip(keys, rows, strict=True) if key is not None}
    known = store.scores(identity, wanted)
    measured = store.measured(identity) if looked_at else set()

    def is_left(key: ScoreKey) -> bool:
        if key not in known:
            return True
        return key.document in looked_at and known[key].within_budget and (key.document, key.summary) not in measured

    # a document's summaries together, since it is measured alone only once
    left = sorted(filter(is_left, wanted))
    if left:
        others = _next_ones(documents) if "elsewhere" in needs_of(settings.measures) else {}
        scorer = load_scorer(reference, settings, device)
        with step(f"scores under {reference.title}", len(left)) as progress:
            for some in _portions(left):
                found = _measure_what_fits(scorer, {key: wanted[key] for key in some}, others)
                kept = {k: m.savings for k, m in found.items() if k.document in looked_at and m.score.within_budget}
                store.put_scores(identity, {key: one.score for key, one in found.items()}, kept)
                for key, one in found.items():
                    known.setdefault(key, one.score)  # what is stored stays, and is what is shown
                progress.advance(len(some))
        del scorer
        release(device)
    return [
        row if key not in known else replace(row, scores={**row.scores, reference.title: known[key]})
        for key, row in zip(keys, rows, strict=True)
    ]


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


def _next_ones(documents: Sequence[Document]) -> dict[str, Document]:
    """The document after each, by its hash; the first comes after the last."""
    following = [*documents[1:], *documents[:1]]
    return {text_hash(own.text): other for own, other in zip(documents, following, strict=True)}


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
