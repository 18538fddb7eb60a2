"""A run of the benchmark: asks the contenders, scores what they wrote, one model in memory at a time.

    documents x budgets x samples -> tasks -> answers -> store -> rows -> scores -> store -> rows

All that is in the store already is left alone, so a run that was stopped goes on where it was; and what several
processes ask and score at once, each does a part of.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.claims import Portion
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.crew import Crew, Job, Portions
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


def ask(asked: Asked, store: Store, crew: Crew) -> None:
    """Asks every contender for what the store does not have, one contender after the other.

    Returns when all is answered, by whichever process.

    Raises:
        SquishError: A contender cannot work; what was answered before is stored.
    """
    crew.share([AnswerJob(contender, tasks, store) for contender, tasks in asked.items()])


class AnswerJob(Job):
    """Asking a contender.

    Args:
        contender: Whom.
        tasks: What.
        store: Keeps the answers.
    """

    def __init__(self, contender: Contender, tasks: Sequence[Task], store: Store) -> None:
        self.contender, self.tasks, self.store = contender, tasks, store
        self.title, self.name = contender.name, f"answers {text_hash(json.dumps(store.task_keys(contender, tasks)))}"

    def left(self) -> list[int]:
        """Tasks that are not answered, or failed."""
        left = set(self.store.open_tasks(self.contender, self.tasks))
        return [place for place, task in enumerate(self.tasks) if task in left]

    def deal(self, items: list[int]) -> list[list[int]]:
        """As the contender does."""
        places = {self.tasks[place]: place for place in items}
        dealt = [[places[task] for task in some] for some in self.contender.portions([self.tasks[i] for i in items])]
        if sorted(place for some in dealt for place in some) != sorted(places.values()):
            raise SquishError(f"the contender {self.contender.name!r} dealt out other tasks than it was given")
        return dealt

    def work(self, portions: Portions) -> None:
        """Asks, and stores answers as they come: with their whole portion where they are made so."""
        try:
            with step(self.title, portions.left) as progress:
                self._ask(portions, progress)
        finally:
            self.contender.close()

    def _ask(self, portions: Portions, progress: Step) -> None:
        together = self.contender.is_free or self.contender.in_portions
        asked: dict[Task, Portion] = {}
        open_tasks: dict[Portion, set[Task]] = {}
        waiting: list[tuple[Task, Answer]] = []

        def given() -> Iterator[list[Task]]:
            for portion in portions:
                # another process may have had it, and answered some
                some = self.store.open_tasks(self.contender, [self.tasks[place] for place in portion.items])
                if not some:
                    portions.done(portion)
                    continue
                asked.update(dict.fromkeys(some, portion))
                open_tasks[portion] = set(some)
                yield some

        def keep() -> None:
            nonlocal waiting
            some, waiting = waiting, []
            self.store.put_answers(self.contender, some)
            progress.advance(len(some))

        answering = self.contender.work_through(given())
        try:
            for pair in answering:
                if not (
                    isinstance(pair, tuple) and len(pair) == 2 and pair[0] in asked and isinstance(pair[1], Answer)
                ):
                    raise SquishError(
                        f"the contender {self.contender.name!r} gave {pair!r:.80}: expected (task, Answer) for what it "
                        "was asked"
                    )
                waiting.append(pair)
                portion = asked[pair[0]]
                open_tasks[portion].discard(pair[0])
                if not together or not open_tasks[portion]:
                    keep()
                if not open_tasks[portion]:
                    portions.done(portion)
        except Exception as error:
            if not isinstance(error, (SquishError, OSError)):
                log.error("the contender %r cannot go on: %s", self.contender.name, type(error).__name__)
            raise
        finally:
            # at once: an endpoint that is still asked goes on costing
            if isinstance(answering, Generator):
                answering.close()
            if waiting:
                keep()
        for portion in open_tasks:
            portions.done(portion)  # what a contender passes over is not asked again in this run


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
    references: Mapping[Reference, str],
    settings: ScoreSettings,
    device: torch.device,
    store: Store,
    crew: Crew,
    looked_at: Collection[str] = (),
    documents: Sequence[Document] = (),
) -> list[Row]:
    """Scores every written summary that the store has no score of, under one reference after the other.

    Returns when all is scored, by whichever process.

    Args:
        rows: Answers, with the texts to be scored.
        references: The models, each with its `identity`; each is loaded when it is needed and gone afterwards.
        settings: Of the score.
        device: Where the models run.
        store: Keeps the scores.
        crew: Shares the work.
        looked_at: Hashes of the documents whose savings on each token are kept too.
        documents: Different ones, in order, all of the rows' among them: where a measure needs another document beside
            a summary's own, it is the next of these, the first one for the last. Needed then alone.

    Returns:
        The rows with the scores; a summary that does not fit a reference gets none.
    """
    keys = [None if row.text is None else ScoreKey.of(row.task, row.text) for row in rows]
    wanted = {key: row for key, row in zip(keys, rows, strict=True) if key is not None}
    others = _next_ones(documents) if "elsewhere" in needs_of(settings.measures) else {}
    jobs = [
        ScoreJob(reference, identity, wanted, settings, device, store, frozenset(looked_at), others)
        for reference, identity in references.items()
    ]
    crew.share(jobs)
    scored = list(rows)
    for job in jobs:
        known = job.scores()
        scored = [
            row if key not in known else replace(row, scores={**row.scores, job.reference.title: known[key]})
            for key, row in zip(keys, scored, strict=True)
        ]
    return scored


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
