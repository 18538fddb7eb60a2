"""Validation: one summary for every document and budget, scored beside the copying baseline, and by an audit.

Keys of the dashboard: `squish`, `novel` and each measure's; `lead_<key>` (`lead` for `squish`) is the same of the
document's opening, `audit_<key>` the same under the audit reference. Beside them stand the shares (`SHARES`), and
of documents of several sources the keys and shares of each, `source/<name>/<key>`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Optional

from squish_pl.budget import Budget
from squish_pl.errors import repeated
from squish_pl.lm.loading import BaseModel
from squish_pl.lm.tokens import encode
from squish_pl.parallel.processes import gather
from squish_pl.score.baselines import lead, lead_key
from squish_pl.score.bootstrap import Estimate
from squish_pl.score.ensemble import within_budget
from squish_pl.score.measures.base import Measure, measure_key
from squish_pl.score.metric import SquishMetric
from squish_pl.score.novelty import copied_share
from squish_pl.score.scorer import Scorer, ScoreRequest
from squish_pl.types import Document, Finish, Rollouts, Scores

MONITORED = "squish"  #: the key by which the best adapter is chosen where none is named
SHARES = ("parsed", "within_budget", "length_used", "copied")  #: what tells how summaries are written, not how good
_TAKEN = ("squish", "novel", "lead", *SHARES)
_SOURCES = "val/source/"  #: how the figures of a source's documents begin
_PREFIXES, _SUFFIXES = ("lead_", "audit_"), ("_low", "_high")


@dataclass(frozen=True)
class ValidationSettings:
    """How a validation goes.

    Attributes:
        budgets: Every validation document is summarised under each of them.
        temperature: 0 takes the likeliest token.
        audit: A model that measures in validation alone, so that the best adapter need not be picked by the model
            that gave the reward; none by default.
    """

    budgets: list[str] = field(default_factory=lambda: ["5%", "10%"])
    temperature: float = 0.0
    audit: Optional[BaseModel] = None

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [] if self.budgets else ["validation.budgets must name at least one budget"]
        found += [f"validation.budgets: {problem}" for problem in Budget.problems(self.budgets)]
        if not 0 <= self.temperature < float("inf"):
            found.append(f"validation.temperature must be a number of at least 0, but is {self.temperature}")
        if self.audit is not None:
            found += [f"validation.audit: {problem}" for problem in self.audit.problems()]
        return found

    def monitored(self) -> str:
        """The figure by which the best adapter is chosen where none is named."""
        return f"val/audit_{MONITORED}" if self.audit is not None else f"val/{MONITORED}"

    def figure_names(self, measures: Iterable[Measure] = ()) -> list[str]:
        """The figures by which the best adapter can be chosen.

        Those of a measure without a zero are none: they say nothing of the summaries that do not count. Nor are length
        used and share copied.
        """
        keys = ["squish", "novel", *(measure.key for measure in measures if measure.has_zero)]
        kinds = keys + [lead_key(key) for key in keys]
        if self.audit is not None:
            kinds += [f"audit_{key}" for key in keys]
        kinds += ["parsed", "within_budget"]
        budgets = [str(Budget.parse(text)) for text in self.budgets if not Budget.problems([text])]
        names = [f"val/{kind}@{budget}" for kind in kinds for budget in budgets]
        return names + [f"val/{kind}" for kind in kinds]


@dataclass(frozen=True, slots=True)
class Validated:
    """One document's summary under one budget, with its scores.

    Attributes:
        document_id: The document's id.
        opening: The document's first characters.
        budget: The budget as text.
        summary: None where the completion could not be parsed.
        finish: Name of the `Finish`.
        within_budget: Parsed, not empty, and no longer than allowed: valid.
        length_used: The summary's length by its limit; NaN where there is none.
        copied: Share of the summary's tokens in a token n-gram of the document; NaN where there is none.
        scores: By the dashboard's key: `squish`, `novel` and the measures'; `lead`, `lead_novel`, ... of the document's
            own opening cut to the budget; `audit_squish`, ... under the audit reference, where there is one. NaN where
            a measure without a zero has no value.
        source: Name of the document's source, where there are several.
    """

    document_id: str
    opening: str
    budget: str
    summary: str | None
    finish: str
    within_budget: bool
    length_used: float
    copied: float
    scores: dict[str, float]
    source: str = ""


class Baseline:
    """Scores of the copying baseline, computed once for each document and budget of a run."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Budget], dict[str, float]] = {}

    def scores(self, scorer: Scorer, asked: Sequence[tuple[Document, Budget]]) -> list[dict[str, float]]:
        """`lead`, `lead_novel`, ... of each document's opening."""
        new = [(d, b) for d, b in dict.fromkeys(asked) if (d.text, b) not in self._known]
        requests = [ScoreRequest(d, [lead(d.text, b, scorer.tokenizer)], b) for d, b in new]
        for (document, budget), scores in zip(new, scorer.score_batch(requests), strict=True):
            self._known[document.text, budget] = {lead_key(key): value for key, value in _named(scores).items()}
        return [self._known[d.text, b] for d, b in asked]


class Validator:
    """Scores validation summaries and adds them up.

    Args:
        scorer: The benchmark's rule applies: what is unparsable, empty or over the budget scores 0.
        audit: Measures the same summaries; none if None.

    Attributes:
        lines: Of the validation under way, or of the last one.
    """

    def __init__(self, scorer: Scorer, audit: Scorer | None = None) -> None:
        self.scorer, self.audit = scorer, audit
        self.lines: list[Validated] = []
        self._places: list[tuple[int, ...]] = []
        self._baseline = Baseline()

    def start(self) -> None:
        """Begins a new validation."""
        self.lines, self._places = [], []

    def add(self, groups: Sequence[Rollouts], places: Sequence[tuple[int, ...]] | None = None) -> None:
        """Scores groups of one summary each, from greedy (or seeded) sampling.

        Args:
            groups: This process's.
            places: Where each one's line stands among those of all processes; by default behind those before.
        """
        self._places += [(len(self.lines) + i,) for i in range(len(groups))] if places is None else places
        asked = [(group.prompt.document, group.prompt.budget) for group in groups]
        requests = [ScoreRequest(d, group.summaries, b) for (d, b), group in zip(asked, groups, strict=True)]
        scores = self.scorer.score_batch(requests)
        audited: Sequence[Scores | None] = [None] * len(groups)
        if self.audit is not None:
            audited = self.audit.score_batch(within_budget(requests, scores))
        leads = self._baseline.scores(self.scorer, asked)
        for group, score, audit, lead_scores in zip(groups, scores, audited, leads, strict=True):
            named = _named(score) | lead_scores
            if audit is not None:
                named |= {f"audit_{key}": value for key, value in _named(audit).items()}
            document = group.prompt.document
            self.lines.append(
                Validated(
                    document_id=document.id,
                    opening=document.text[:200],
                    budget=str(group.prompt.budget),
                    summary=group.summaries[0],
                    finish=Finish(int(group.finish[0])).name.lower(),
                    within_budget=bool(score.within_budget[0]) and bool(group.summaries[0]),
                    **_manner(group, self.scorer),
                    scores=named,
                    source=document.source,
                )
            )

    def finish(self) -> dict[str, float]:
        """Ends the validation: all processes' lines are in `lines`, and the figures are returned (see `summarise`)."""
        told = [line for part in gather(list(zip(self._places, self.lines, strict=True))) for line in part]
        self.lines = [line for _, line in sorted(told, key=lambda pair: pair[0])]
        return summarise(self.lines, self.scorer)


def summarise(lines: Sequence[Validated], scorer: Scorer) -> dict[str, float]:
    """The figures of a validation, by their dashboard keys (see docs/metrics.md).

    Intervals are left out where a single document tells none. Those of a measure without a zero are over the summaries
    that have a value, and left out where none has.
    """
    if not lines:
        return {}
    figures: dict[str, float] = {}
    budgets = list(dict.fromkeys(line.budget for line in lines))
    without_zero = [measure.key for measure in scorer.measures if not measure.has_zero]
    partial = {name for key in without_zero for name in (key, lead_key(key), f"audit_{key}")}
    for key in lines[0].scores:
        means = []
        for budget in budgets:
            values = [line.scores[key] for line in lines if line.budget == budget]
            values = [value for value in values if key not in partial or not math.isnan(value)]
            if values:
                metric = SquishMetric(scorer, budget)
                metric.add(values)
                figures |= _estimated(key, budget, metric.estimate())
                means.append(figures[f"val/{key}@{budget}"])
        if len(means) == len(budgets):
            figures[f"val/{key}"] = sum(means) / len(means)
    for budget in budgets:
        shares = _shares([line for line in lines if line.budget == budget])
        figures |= {f"val/{name}@{budget}": share for name, share in shares.items()}
    figures |= {f"val/{name}": share for name, share in _shares(lines).items()}
    return figures | _of_sources(lines, scorer)


def _of_sources(lines: Sequence[Validated], scorer: Scorer) -> dict[str, float]:
    """The policy's own figures of each source's documents, without their intervals; none where there is no list."""
    wanted = {*own_keys(lines[0].scores), *SHARES}
    found = {}
    for source in dict.fromkeys(line.source for line in lines if line.source):
        own = summarise([replace(line, source="") for line in lines if line.source == source], scorer)
        for figure, value in own.items():
            name = figure.removeprefix("val/")
            if name.split("@", 1)[0] in wanted:
                found[f"{_SOURCES}{source}/{name}"] = value
    return found


def _shares(lines: Sequence[Validated]) -> dict[str, float]:
    """`SHARES` of some summaries: the length used by the valid ones, what is copied of those that are there."""
    values = {
        "parsed": [float(line.summary is not None) for line in lines],
        "within_budget": [float(line.within_budget) for line in lines],
        "length_used": [line.length_used for line in lines if line.within_budget],
        "copied": [line.copied for line in lines if line.summary is not None],
    }
    return {name: fmean(some) for name, some in values.items() if some}


def _estimated(key: str, budget: str, found: Estimate) -> dict[str, float]:
    ends = {"low": found.low, "high": found.high} if found.low == found.low else {}
    return {f"val/{key}@{budget}": found.mean} | {f"val/{key}_{end}@{budget}": x for end, x in ends.items()}


def estimate_of(figures: Mapping[str, float], key: str, budget: str) -> Estimate:
    """A mean with its interval out of the figures of a validation; NaN where it has none."""
    nan = float("nan")
    low, high = (figures.get(f"val/{key}_{end}@{budget}", nan) for end in ("low", "high"))
    return Estimate(figures.get(f"val/{key}@{budget}", nan), low, high)


def budgets_of(figures: Mapping[str, float]) -> list[str]:
    """The budgets that the figures of a validation are about, as text."""
    return [key.split("@", 1)[1] for key in figures if key.startswith("val/squish@")]


def monitored_key(figure: str) -> str:
    """The key that a figure is of, of the policy's summaries or the opening, whoever measured."""
    key = figure.removeprefix("val/").split("@", 1)[0].removeprefix("audit_")
    return "squish" if key == "lead" else key.removeprefix("lead_")


def keys_of(figures: Mapping[str, float]) -> list[str]:
    """The keys that the figures of a validation are about, those of opening and audit left out."""
    of_all = (figure for figure in figures if "@" in figure and not figure.startswith(_SOURCES))
    means = dict.fromkeys(figure[4:].split("@", 1)[0] for figure in of_all)
    return [key for key in own_keys(means) if not key.endswith(_SUFFIXES) and key not in SHARES]


def own_keys(keys: Iterable[str]) -> list[str]:
    """Those of the policy's summaries under the reference."""
    return [key for key in keys if key != "lead" and not key.startswith(_PREFIXES)]


def key_problems(measures: Sequence[Measure]) -> list[str]:
    """Which measures cannot be told apart from the other figures, a sentence each."""
    found = []
    for measure in measures:
        key = measure.key
        if not key or key in _TAKEN or key.startswith(_PREFIXES) or key.endswith(_SUFFIXES):
            reason = "leave it out, it is measured anyway" if key == "squish" else "give it another name"
            found.append(f"measures: {measure.name!r} would be val/{key}, a name of other figures: {reason}")
    for key, count in repeated(measure.key for measure in measures).items():
        found.append(f"measures: {count} would be val/{key}: give each a name of its own")
    return found


def _manner(group: Rollouts, scorer: Scorer) -> dict[str, float]:
    """Length used and share copied of a group's only summary."""
    (summary,), document, budget = group.summaries, group.prompt.document.text, group.prompt.budget
    if summary is None:
        return {"length_used": math.nan, "copied": math.nan}
    tokenizer = scorer.tokenizer
    ids = encode(tokenizer, document), encode(tokenizer, summary)
    return {
        "length_used": budget.used(summary, budget.limit(document, tokenizer), tokenizer),
        "copied": copied_share(*ids, scorer.novel_ngram),
    }


def _named(scores: Scores) -> dict[str, float]:
    values = {"squish": scores.score, "novel": scores.novel_score}
    values |= {measure_key(name): value for name, value in scores.measures.items()}
    return {key: float(value[0]) for key, value in values.items()}
