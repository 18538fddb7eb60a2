"""A comparison from its settings to its findings: what `validate` and `score` both do."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from squish_pl import __version__
from squish_pl.benchmark import runner
from squish_pl.benchmark.contenders.base import Contender, distinct
from squish_pl.benchmark.contenders.baselines import Highlights
from squish_pl.benchmark.crew import Crew
from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.gather import contenders_in_order, shown_documents, usage
from squish_pl.benchmark.leaderboard import Row, combined_name, leaderboard
from squish_pl.benchmark.published import PublishedScore
from squish_pl.benchmark.records import text_hash
from squish_pl.benchmark.references import Reference, dtype_name
from squish_pl.benchmark.resistance import resistance
from squish_pl.benchmark.runner import Asked
from squish_pl.benchmark.scores import Score, name_problems, rank_problems, scores_of
from squish_pl.benchmark.store import Store
from squish_pl.budget import Budget
from squish_pl.data.filters import cut_document
from squish_pl.errors import ConfigError, DataError
from squish_pl.lm.tokens import tokenizer_hash
from squish_pl.score.ensemble import Rule
from squish_pl.score.settings import ScoreSettings
from squish_pl.types import Document


@dataclass(frozen=True)
class Comparison:
    """What is compared, and by which rules.

    Attributes:
        contenders: Whoever writes.
        references: Models that measure; with several, their scores combined are ranked too.
        budgets: Caps, as text.
        score: Of the score.
        rank_by: Key of the score that decides the ranking: "squish", "novel", or the name of a measure with a zero.
        original_rules: The original's: cut summaries that are too long by less than half of their limit, drop those
            that score 0, leave out contenders with four fifths of the documents or fewer.
        shown: Documents that are kept for looking at, with each token's savings.
        published: Values measured elsewhere, to be laid beside.
        rule: How one score is made of several references': "mean", or "min", the score that no reference falls below.
        good: Name of the contender whose summaries are laid beside attacks.
    """

    contenders: Sequence[Contender]
    references: Sequence[Reference]
    budgets: Sequence[str]
    score: ScoreSettings = field(default_factory=ScoreSettings)
    rank_by: str = "squish"
    original_rules: bool = False
    shown: int = 200
    published: Sequence[PublishedScore] = ()
    rule: Rule = "mean"
    good: str = "highlights"

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [] if self.budgets else ["budgets must name at least one"]
        found += [f"budgets: {problem}" for problem in Budget.problems(self.budgets)]
        for what, names in (
            ("contenders", [contender.name for contender in self.contenders]),
            ("references", [reference.title for reference in self.references]),
        ):
            if not names:
                found.append(f"{what} must name at least one")
            for name, count in Counter(names).items():
                if count > 1:
                    found.append(f"{what}: {count} are called {name!r}: give each a name of its own")
                if name == combined_name(self.rule) and what == "references":
                    found.append(f"references: {name!r} is the name of their {self.rule}: give this one another")
                if not name.strip():
                    found.append(f"{what}: a name must not be empty")
        for contender in self.contenders:
            found += [f"contender {contender.name!r}: {problem}" for problem in contender.problems()]
        for reference in self.references:
            found += reference.problems()
        can_be_good = [contender.name for contender in self.contenders if not contender.is_attack]
        if self.has_attacks and self.good not in can_be_good:
            found.append(
                "good: expected the name of a contender that is no attack, to be laid beside attacks, but "
                f"{self.good!r} is none: there are {', '.join(map(repr, can_be_good)) or 'none'}"
            )
        if self.shown < 0:
            found.append(f"shown must not be negative, but is {self.shown}")
        found += rank_problems(self.rank_by, self.scores) + name_problems(self.score.measures)
        return found + self.score.problems()

    @property
    def scores(self) -> tuple[Score, ...]:
        """All that a summary is scored by."""
        return scores_of(self.score.measures)

    @property
    def has_attacks(self) -> bool:
        """Whether any contender is an attack."""
        return any(contender.is_attack for contender in self.contenders)


@dataclass(frozen=True)
class Prepared:
    """Work to be done.

    Attributes:
        documents: Different ones, cut.
        budgets: Normalised.
        asked: Contenders with their tasks.
        source: Where the documents come from, for people.
    """

    documents: list[Document]
    budgets: list[str]
    asked: Asked
    source: str


def prepare(what: Comparison, documents: Sequence[Document], source: str, max_tokens: int | None = None) -> Prepared:
    """Lays the work out, and finds what cannot be done before anything is.

    Args:
        what: Its `problems` have been looked at.
        documents: As they were read.
        source: Where they come from, for people.
        max_tokens: Documents are cut to so many of the first reference's tokens.

    Raises:
        ConfigError: A document is too long for a reference, or references count tokens differently.
        DataError: A contender cannot serve these documents.
    """
    budgets = list(dict.fromkeys(str(Budget.parse(budget)) for budget in what.budgets))
    tokenizer = what.references[0].tokenizer
    uncut, documents = documents, [cut_document(document, tokenizer, max_tokens) for document in documents]
    if blank := [d for d, cut in zip(uncut, documents, strict=True) if not cut.text.strip()]:
        raise DataError(
            f"nothing is left of {len(blank)} documents cut to {max_tokens} tokens, such as {blank[0].text[:40]!r}: "
            "set max_tokens higher, or leave them out (min_characters)"
        )
    parsed = [Budget.parse(budget) for budget in budgets]
    if any(budget.unit.counts_tokens for budget in parsed):
        _one_vocabulary(what.references)
        for contender in what.contenders:
            contender.tokenizer = tokenizer
    room = [p for r in what.references for p in r.room_problems(documents, parsed, what.score, tokenizer)]
    if room:
        raise ConfigError(room)
    if what.has_attacks and not any(document.highlights.strip() for document in documents):
        for contender in what.contenders:
            if contender.name == what.good and isinstance(contender, Highlights):
                raise DataError(
                    f"attacks are laid beside {what.good!r}, but no document of {source} has a field `highlights`: "
                    "take documents that have (--documents FILE), or name another contender with good"
                )
    asked = {contender: contender.tasks(documents, budgets) for contender in what.contenders}
    different = distinct(documents)
    if len(different) == 1 and (lonely := [m.name for m in what.score.measures if "elsewhere" in m.needs]):
        raise ConfigError(
            [
                f"score.measures: {name!r} lays each summary beside a document that it was not written of, but there "
                "is one alone: take more documents, or leave the measure out"
                for name in lonely
            ]
        )
    about = f"{len(different)} of {source}" + (f", cut to {max_tokens} tokens" if max_tokens else "")
    return Prepared(different, budgets, asked, about)


@dataclass(frozen=True)
class Scored:
    """Work that is done.

    Attributes:
        rows: Answers with their scores.
        identities: Of the references, under which the store has their scores.
    """

    rows: list[Row]
    identities: dict[Reference, str]


def compare(what: Comparison, work: Prepared, store: Store, device: torch.device) -> Findings:
    """Asks, scores and ranks; what the store has already is not done again.

    Args:
        what: Contenders, references and rules.
        work: Of them.
        store: Answers and scores; it must stay open as long as documents of the findings are asked for.
        device: Where the references run.

    Raises:
        ConfigError: A contender cannot work.
        SquishError: The work cannot go on; what was done is stored.
    """
    with Crew(store) as crew:
        return findings_of(what, work, carry_out(what, work, store, device, crew), store, device)


def carry_out(what: Comparison, work: Prepared, store: Store, device: torch.device, crew: Crew) -> Scored:
    """Asks and scores, together with all who do the same; returns when all is done.

    Args:
        what: Contenders, references and rules.
        work: Of them.
        store: Answers and scores.
        device: Where the references run.
        crew: Shares the work.

    Raises:
        ConfigError: A contender cannot work.
        SquishError: The work cannot go on; what was done is stored.
    """
    runner.check_contenders(work.asked, store)
    runner.ask(work.asked, store, crew)
    rows = runner.answers(work.asked, store, what.references[0].tokenizer if what.original_rules else None)
    looked_at = frozenset(text_hash(document.text) for document in work.documents[: what.shown])
    identities = {reference: reference.identity(what.score, device, work.documents) for reference in what.references}
    rows = runner.score(rows, identities, what.score, device, store, crew, looked_at, work.documents)
    return Scored(rows, identities)


def findings_of(what: Comparison, work: Prepared, scored: Scored, store: Store, device: torch.device) -> Findings:
    """Ranks what was scored.

    Args:
        what: Contenders, references and rules.
        work: Of them.
        scored: What came of it.
        store: It must stay open as long as documents of the findings are asked for.
        device: Where the references ran.
    """
    rows, titles = scored.rows, [reference.title for reference in what.references]
    board = leaderboard(rows, titles, what.rank_by, what.original_rules, what.rule, what.scores)
    order = contenders_in_order(board, rows)
    looked_at = work.documents[: what.shown]
    return Findings(
        title="SQUISH benchmark",
        facts=_facts(what, work, device),
        board=board,
        budgets=work.budgets,
        references=titles,
        usage=usage(rows, order),
        rows=rows,
        published=what.published,
        documents=partial(
            shown_documents, looked_at, rows, order, scored.identities, what.score.novel_ngram, store, what.scores
        ),
        resistance=resistance(rows, titles, what.good, what.rule, what.scores),
    )


def run_name(what: Comparison, work: Prepared, device: torch.device, outputs: Sequence[str | None]) -> str:
    """A name that processes have in common that do the same work for the same files."""
    rules = [what.rank_by, what.original_rules, what.shown, len(what.published), what.rule, what.good]
    asked = [[contender.name, text_hash(contender.identity), len(tasks)] for contender, tasks in work.asked.items()]
    measured = [[r.title, r.identity(what.score, device, work.documents)] for r in what.references]
    texts = [text_hash(document.text) for document in work.documents]
    return f"results {text_hash(json.dumps([asked, measured, texts, work.budgets, rules, list(outputs)]))}"


def _facts(what: Comparison, work: Prepared, device: torch.device) -> dict[str, str]:
    """What was measured and how, for people."""
    references = [f"{r.title} ({dtype_name(r, device)} on {device.type})" for r in what.references]
    benchmarks = "over the budget or unparsable counts 0; failed is left out"
    return {
        "documents": work.source,
        "budgets": ", ".join(work.budgets),
        "references": ", ".join(references),
        "frame": what.score.template.frame,
        **({} if what.score.protocol == "own" else {"protocol": f"the {what.score.protocol}'s sums"}),
        "copied": f"token n-grams of {what.score.novel_ngram} shared with the summary",
        **({"measures": ", ".join(measure.name for measure in what.score.measures)} if what.score.measures else {}),
        "rules": "the original's" if what.original_rules else benchmarks,
        "made": f"{datetime.date.today():%d %B %Y} by squish-pl {__version__}",
    }


def _one_vocabulary(references: Sequence[Reference]) -> None:
    if len({tokenizer_hash(reference.tokenizer) for reference in references}) > 1:
        raise ConfigError(
            [
                "budgets in tokens are counted by the reference, but these references count differently: use "
                "characters or bytes"
            ]
        )
