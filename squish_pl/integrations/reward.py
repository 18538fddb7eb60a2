"""What all integrations share: completions of any shape in, one number for each out."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch

from squish_pl.benchmark.references import pick_device
from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, DataError
from squish_pl.lm.loading import BaseModel, DType
from squish_pl.policy.answers import find_summary, without_thought
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.rl.rewards import InvalidRule
from squish_pl.score.ensemble import load_scorer
from squish_pl.score.measures.base import Measure
from squish_pl.score.measures.candidates import default_measures
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.score.template import ScoreTemplate

Completion = str | Sequence[Mapping[str, Any]]  #: a text, or a chat's messages of which the last is the answer
Key = tuple[str, str, str]  #: document, budget, summary
_REMEMBERED = 4_096  #: summaries whose values are kept
_one_at_a_time = threading.RLock()  # rewards share a reference, and libraries call them from threads


class Graded(NamedTuple):
    """One completion's result.

    Attributes:
        reward: What it earns.
        valid: Whether there is a summary, not empty and within the budget, and the measure could tell its value.
        summary: None where the completion holds none.
    """

    reward: float
    valid: bool
    summary: str | None


class SummaryReward:
    """Scores completions that hold a summary each.

    The reference is loaded when something is scored for the first time, once for all rewards of a process that name
    the same one. A summary that was scored before is not scored again. Safe to call from several threads.

    Args:
        measure: SQUISH by default; any measure of `squish_pl.score.measures`, or its class's name, such as "fair".
        base: Reference model: hub id, folder, or "package:NAME".
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        device: "auto" takes a GPU where there is one.
        budget: The cap where a row of the data names none of its own.
        invalid: What a missing, empty or over-budget summary earns. 0 is the benchmark's rule; "below_worst" is
            training's: a little less than the worst valid one of the same document and budget in the call.
        name: As the library logs it; by default the measure's key.
        prompt: Names the summary's tags, and words the request.
        template: How summary and document are framed for the reference.
        scorer: A scorer that is there already, in place of a reference to load.

    Raises:
        ConfigError: A setting cannot be used.
        BudgetError: The budget cannot be understood.
    """

    def __init__(
        self,
        measure: Measure | str = "squish",
        base: str = "Qwen/Qwen3-1.7B-Base",
        gguf_file: str | None = None,
        revision: str | None = None,
        dtype: DType = "auto",
        device: str = "auto",
        budget: Budget | str = "10%",
        invalid: Literal["below_worst"] | float = 0.0,
        name: str = "",
        prompt: PromptTemplate = PromptTemplate(),
        template: ScoreTemplate = ScoreTemplate(),
        scorer: SquishScorer | None = None,
    ) -> None:
        self.measure = make_measure(measure) if isinstance(measure, str) else measure
        self.budget = Budget.parse(budget)
        self.prompt, self.template = prompt, template
        self.model, self.device = BaseModel(base, gguf_file, revision, dtype), device
        self.invalid = InvalidRule(invalid)
        self.name = self.__name__ = name or self.measure.key
        self._scorer = scorer
        self._known: OrderedDict[Key, float] = OrderedDict()
        if problems := self._problems():
            raise ConfigError(problems)

    @property
    def scorer(self) -> SquishScorer:
        """The scorer, loaded at its first use.

        Raises:
            ModelError: The reference cannot be loaded.
        """
        with _one_at_a_time:
            if self._scorer is None:
                self._scorer = _shared_scorer(self.model, self.template, str(pick_device(self.device)))
            return self._scorer

    def grade(
        self,
        documents: Sequence[str],
        completions: Sequence[Completion],
        budgets: Sequence[Budget | str | None] | None = None,
    ) -> list[Graded]:
        """Grades a batch.

        Args:
            documents: One for each completion.
            completions: What was written of them.
            budgets: One for each; None where the default holds.

        Raises:
            DataError: The numbers differ, or a document is no text.
            BudgetError: A budget cannot be understood.
            SquishError: See `SquishScorer.score_batch`.
        """
        budgets = [None] * len(documents) if budgets is None else budgets
        if not len(documents) == len(completions) == len(budgets):
            counts = f"{len(documents)} documents, {len(completions)} completions and {len(budgets)} budgets"
            raise DataError(f"expected a document and a budget for each completion, but got {counts}")
        if wrong := [type(text).__name__ for text in documents if not isinstance(text, str)]:
            raise DataError(f"expected documents as text, but got {wrong[0]}")
        summaries = [self.summary(completion) for completion in completions]
        groups: dict[tuple[str, str], list[int]] = {}
        for row, (document, budget) in enumerate(zip(documents, budgets, strict=True)):
            groups.setdefault((document, str(Budget.parse(budget or self.budget))), []).append(row)
        keys = {row: (*group, summary) for group, rows in groups.items() for row in rows if (summary := summaries[row])}
        with _one_at_a_time:
            values = self._values(list(dict.fromkeys(keys.values())))
        graded: dict[int, Graded] = {}
        for rows in groups.values():
            own = torch.tensor([values[keys[row]] if row in keys else math.nan for row in rows], dtype=torch.float64)
            earned = self.invalid.apply(own, ~own.isnan()).tolist()
            for row, reward, valid in zip(rows, earned, (~own.isnan()).tolist(), strict=True):
                graded[row] = Graded(reward, valid, summaries[row])
        return [graded[row] for row in range(len(documents))]

    def grade_one(self, document: str, completion: Completion, budget: Budget | str | None = None) -> Graded:
        """Grades one completion; see `grade`."""
        return self.grade([document], [completion], [budget])[0]

    def summary(self, completion: Completion) -> str | None:
        """The summary in a completion, whether the prompt opened its tag or the model did; None where there is none."""
        return find_summary(without_thought(_text(completion), self.prompt), self.prompt)

    def messages(self, document: str, budget: Budget | str | None = None) -> list[dict[str, str]]:
        """The chat that asks for a summary; loads the reference only for a budget that is a share of tokens."""
        cap = Budget.parse(budget or self.budget)
        counts = cap.unit.counts_tokens and cap.unit.is_share
        limit = cap.limit(document, self.scorer.tokenizer if counts else None)
        return self.prompt.messages(document, cap, limit)

    def _values(self, keys: Sequence[Key]) -> dict[Key, float]:
        """What the measure gives; NaN over the budget, and where it cannot tell."""
        requests: dict[tuple[str, str], list[str]] = {}
        for document, budget, summary in keys:
            if (document, budget, summary) not in self._known:
                requests.setdefault((document, budget), []).append(summary)
        asked = [ScoreRequest(document, summaries, budget) for (document, budget), summaries in requests.items()]
        evidence = self.scorer.evidence(asked, self.measure.needs) if asked else []
        for (document, budget), one in zip(requests, evidence, strict=True):
            values = self.measure(one, evidence).where(one.within_budget, torch.nan).tolist()
            for summary, value in zip(requests[document, budget], values, strict=True):
                self._known[document, budget, summary] = value
        found = {key: self._known[key] for key in keys}
        for key in keys:
            self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _problems(self) -> list[str]:
        found = [*self.prompt.problems(), *self.template.problems(), *self.measure.problems(), *self.invalid.problems()]
        if self._scorer is None:
            found += self.model.problems()
        if "elsewhere" in self.measure.needs:
            found.append(f"measure {self.measure.name!r} compares documents: take one that needs no other document")
        if not self.measure.has_zero and self.invalid.earns == 0:
            found.append(
                f"measure {self.measure.name!r} has no zero that an invalid summary could earn: "
                'set invalid to "below_worst", or to a number below what summaries get'
            )
        return found


def make_measure(name: str) -> Measure:
    """A measure by its class's name, in any letters, with its usual settings.

    Raises:
        ConfigError: There is none of that name.
    """
    known = {type(measure).__name__.lower(): measure for measure in default_measures()}
    if name.lower() not in known:
        raise ConfigError([f"expected measure to be one of {', '.join(known)}, but got {name!r}"])
    return known[name.lower()]


@cache
def shared_reward(**settings: Any) -> SummaryReward:
    """One reward for all that ask with the same settings, so that they remember together what was scored."""
    return SummaryReward(**settings)


@cache
def _shared_scorer(model: BaseModel, template: ScoreTemplate, device: str) -> SquishScorer:
    return load_scorer(model, ScoreSettings(template), device)


def _text(completion: Completion) -> str:
    """A completion's text; of a chat, that of its last message, whose content may come in parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts]
    return "".join(text for text in texts if isinstance(text, str))
