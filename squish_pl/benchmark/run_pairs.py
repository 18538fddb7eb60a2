"""Two runs of the benchmark laid beside each other, by what their stores have kept.

store -> rows of each contender, budget and reference -> scores by document -> differences over shared documents
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from squish_pl.benchmark.leaderboard import Row, document_scores, lead_over
from squish_pl.benchmark.records import Task, text_hash
from squish_pl.benchmark.scores import SCORES, Score
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.errors import DataError
from squish_pl.score.bootstrap import Estimate, estimate
from squish_pl.score.measures.candidates import default_measures
from squish_pl.types import Document

Group = tuple[str, str, str]  #: reference's identity, budget, contender
_NO_ZERO = {measure.name.split()[0] for measure in default_measures() if not measure.has_zero}


class Pair(NamedTuple):
    """A contender in both runs, under one budget, reference and score.

    Attributes:
        reference: A short hash of the reference's identity.
        budget: As text.
        contender: Its name.
        score: Key of the score.
        first: Mean in the first run, over the documents that both have.
        second: Mean in the second run, over the same.
        ahead: The second minus the first, document by document.
        resolved: Whether the interval of `ahead` leaves zero out; never under six documents.
        documents: How many both have.
    """

    reference: str
    budget: str
    contender: str
    score: str
    first: Estimate
    second: Estimate
    ahead: Estimate
    resolved: bool
    documents: int


class Compared(NamedTuple):
    """Pairs, and what one of the runs has alone, a sentence each."""

    pairs: list[Pair]
    notes: list[str]


def stored_rows(path: str) -> dict[Group, list[Row]]:
    """All that a store has; written answers without a score (failed, cut by the original's rules) count nowhere.

    Raises:
        DataError: There is no such store, or it has no scores.
    """
    if not Path(path).expanduser().is_file():
        raise DataError(f"there is no store {path!r}: name two files that `compare` has written (store)")
    with Store(path) as store:
        answers, scores = store.everything()
    if not scores:
        raise DataError(f"the store {path} has no scores yet: run `compare` first")
    settings: dict[str, list[str]] = {}
    for name, identity, *_ in answers:
        if identity not in settings.setdefault(name, []):
            settings[name].append(identity)
    found: dict[Group, list[Row]] = {}
    for name, identity, document, kept_budget, sample, answer in answers:
        budget = kept_budget.partition(" of ")[0]  # of tokens: whose
        several = len(settings[name]) > 1  # the same name with other settings
        label = f"{name} ({identity[:6]})" if several else name
        # texts of documents are not kept: a hash stands for them
        task = Task(Document(document), budget, sample)
        text = None if answer.summary is None else answer.summary.strip()
        for reference, of_reference in scores.items():
            known = None if text is None else of_reference.get(ScoreKey(document, budget, text_hash(text)))
            row = Row(label, task, answer, {} if known is None else {reference: known})
            found.setdefault((reference, budget, label), []).append(row)
    return found


def compare_runs(first: Mapping[Group, Sequence[Row]], second: Mapping[Group, Sequence[Row]]) -> Compared:
    """Every contender that both runs have, under each budget and reference that both have.

    Raises:
        DataError: They were measured by different references, or share no contender, budget and document.
    """
    references = [{reference for reference, _, _ in run} for run in (first, second)]
    if not references[0] & references[1]:
        facts = [set(", ".join(sorted(found)).split(", ")) for found in references]
        apart = "; ".join(", ".join(sorted(a - b)) for a, b in (facts, facts[::-1]))
        raise DataError(f"the two runs were not measured alike, so their scores cannot be compared: {apart}")
    pairs: list[Pair] = []
    for group in (group for group in first if group in second):
        pairs += _pairs(group, first[group], second[group])
    if not pairs:
        raise DataError("the two runs share no contender with scores of the same documents under the same budget")
    pairs.sort(key=lambda pair: (pair.reference, list(map(str, pair.budget.split())), pair.score, -pair.ahead.mean))
    mine, other = ({group[2] for group in run} for run in (first, second))
    alone = (("first", sorted(mine - other)), ("second", sorted(other - mine)))
    notes = [f"only in the {which} run: {', '.join(names)}" for which, names in alone if names]
    return Compared(pairs, notes)


def _pairs(group: Group, first: Sequence[Row], second: Sequence[Row]) -> list[Pair]:
    reference, budget, contender = group
    measures = [_measures(rows, reference) for rows in (first, second)]
    scores = [*SCORES, *(Score(name, name.split()[0] not in _NO_ZERO) for name in measures[0] if name in measures[1])]
    found = []
    for score in scores:
        mine, other = (document_scores(rows, [reference], "mean", score) for rows in (second, first))
        shared = [document for document in mine if document in other]
        if not shared:
            continue
        ahead, resolved = lead_over(mine, other)
        was, now = (estimate(values[document] for document in shared) for values in (other, mine))
        short = text_hash(reference)[:6]
        found.append(Pair(short, budget, contender, score.key, was, now, ahead, resolved, len(shared)))
    return found


def _measures(rows: Sequence[Row], reference: str) -> dict[str, None]:
    """Names of the measures that all scored rows have, in order."""
    records = [row.scores[reference] for row in rows if reference in row.scores]
    return {name: None for name in (records[0].measures if records else ()) if all(name in r.measures for r in records)}


def pair_tables(compared: Compared, names: Sequence[str]) -> list[Table]:
    """A table for each reference, budget and score; `names` are the two runs'."""
    tables = []
    for (reference, budget, score), pairs in groupby(compared.pairs, key=lambda p: (p.reference, p.budget, p.score)):
        title = f"Budget {budget}, {Score(score).title} (reference {reference}); means [95 % bootstrap interval]"
        table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for heading in ("contender", *names, "second is ahead by", "", "documents"):
            table.add_column(Text(heading), justify="left" if heading in ("contender", "") else "right")
        for pair in pairs:
            figures = (pair.first.text(), pair.second.text(), pair.ahead.text())
            resolved = "resolved" if pair.resolved else "not resolved"
            table.add_row(*map(Text, (pair.contender, *figures, resolved, str(pair.documents))))
        tables.append(table)
    return tables


def pairs_csv(compared: Compared) -> str:
    """One line for each pair, with every figure in full."""
    file = io.StringIO()
    spread = [f"{name}{part}" for name in ("first", "second", "ahead") for part in ("", "_low", "_high")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["reference", "budget", "contender", "score", *spread, "resolved", "documents"])
    for pair in compared.pairs:
        figures = [None if math.isnan(x) else x for one in (pair.first, pair.second, pair.ahead) for x in one]
        writer.writerow([*pair[:4], *figures, pair.resolved, pair.documents])
    return file.getvalue()
