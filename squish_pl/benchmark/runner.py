"""A run of the benchmark: asks the contenders, scores what they wrote, one model in memory at a time.

    documents x budgets x samples -> tasks -> answers -> store -> rows -> scores -> store -> rows

All that is in the store already is left alone, so a run that was stopped goes on where it was; and what several
processes ask and score at once, each does a part of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.answer_job import AnswerJob
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.crew import Crew
from squish_pl.benchmark.leaderboard import Row
from squish_pl.benchmark.original_rules import is_shortened, shortened
from squish_pl.benchmark.records import Answer, Outcome, Task, text_hash
from squish_pl.benchmark.references import Reference
from squish_pl.benchmark.score_job import ScoreJob
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, SquishError
from squish_pl.score.measures.base import needs_of
from squish_pl.score.settings import ScoreSettings
from squish_pl.types import Document

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


def _next_ones(documents: Sequence[Document]) -> dict[str, Document]:
    """The document after each, by its hash; the first comes after the last."""
    following = [*documents[1:], *documents[:1]]
    return {text_hash(own.text): other for own, other in zip(documents, following, strict=True)}
