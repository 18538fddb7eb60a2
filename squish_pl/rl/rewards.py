"""Rewards: what a completion earns in training, a weighted sum of components by name.

    scores, group -> each reward's [G] by its name -> weighted sum -> the rules for length and invalid summaries -> [G]

A component is one class, chosen by `class_path` in the list `model.rewards`, and logged under `reward/<name>`. Any
measure can be one (`Measured`); the scorer then carries it.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.errors import repeated
from squish_pl.score.measures.base import Measure, measured
from squish_pl.score.scorer import Scorer
from squish_pl.types import Rollouts, Scores

RESERVED = ("mean", "std", "best", "zero_spread", "length_factor")  #: figures of all rewards together


class Reward(abc.ABC):
    """A component of the reward.

    Args:
        weight: Its factor in the sum.
        name: As the dashboard shows it: `reward/<name>`.

    Attributes:
        measures: What it needs in `Scores.measures`.
    """

    measures: Sequence[Measure] = ()

    def __init__(self, weight: float = 1.0, name: str = "") -> None:
        self.weight = weight
        self.name = name or type(self).__name__.lower()

    @abc.abstractmethod
    def __call__(self, scores: Scores, group: Rollouts, scorer: Scorer) -> Tensor:
        """[G] what each summary earns; NaN where that cannot be told, which counts as invalid.

        The value of an invalid summary is not looked at.

        Args:
            scores: Of the group's summaries.
            group: The completions; `group.summaries` are None where they cannot be parsed.
            scorer: The reference, for what the scores do not hold.
        """

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not math.isfinite(self.weight):
            found.append(f"weight must be a finite number, but is {self.weight}")
        if self.name in RESERVED:
            found.append(f"name must not be one of {', '.join(RESERVED)}, but is {self.name!r}")
        owner = {"squish": Squish, "novel": SquishNovel}.get(self.name, type(self))
        if type(self) is not owner:
            found.append(f"name must not be {self.name!r}: reward/{self.name} shows what {owner.__name__} gives")
        return found


class Squish(Reward):
    """SQUISH: the share of the document's information that the summary saves."""

    def __init__(self, weight: float = 1.0, name: str = "squish") -> None:
        super().__init__(weight, name)

    def __call__(self, scores: Scores, group: Rollouts, scorer: Scorer) -> Tensor:
        return scores.score


class SquishNovel(Reward):
    """SQUISH-novel: the same over document tokens in no n-gram shared with the summary."""

    def __init__(self, weight: float = 1.0, name: str = "novel") -> None:
        super().__init__(weight, name)

    def __call__(self, scores: Scores, group: Rollouts, scorer: Scorer) -> Tensor:
        return scores.novel_score


class OwnInformation(Reward):
    """Minus the summary's own information by the document's, an ablation of the original's post: -I(s) / I(d).

    The sum is then nearly always negative, which says nothing about a group's ranking.
    """

    def __init__(self, weight: float = 0.1, name: str = "own_information") -> None:
        super().__init__(weight, name)

    def __call__(self, scores: Scores, group: Rollouts, scorer: Scorer) -> Tensor:
        own = [float(nats.double().sum()) for nats in scorer.information([s or "" for s in group.summaries])]
        return -torch.tensor(own, dtype=torch.float64) / max(scores.information, 1e-12)


class Measured(Reward):
    """What a measure gives; the scorer then carries it.

    Args:
        measure: See `score.measures`. One without a zero gives invalid summaries NaN, which none of them earns.
        weight: See `Reward`.
        name: By default the measure's key.
    """

    def __init__(self, measure: Measure, weight: float = 1.0, name: str = "") -> None:
        super().__init__(weight, name or measure.key)
        self.measure = measure

    @property
    def measures(self) -> Sequence[Measure]:  # type: ignore[override]  # follows from the measure
        return (self.measure,)

    def __call__(self, scores: Scores, group: Rollouts, scorer: Scorer) -> Tensor:
        return measured(scores, self.measure)

    def problems(self) -> list[str]:
        return super().problems() + self.measure.problems()


@dataclass(frozen=True)
class InvalidRule:
    """What an unparsable, empty or over-budget summary earns, whatever the components are.

    So does a summary of which a component cannot tell anything (NaN).

    Attributes:
        earns: "below_worst" is the worst valid reward of its group minus `margin`; a number is earned as it is (0 is
            the benchmark's rule). Where no summary of a group is valid, all earn the same and the group teaches
            nothing.
        margin: See `earns`.
    """

    earns: Literal["below_worst"] | float = "below_worst"
    margin: float = 0.01

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not 0 <= self.margin < math.inf:
            found.append(f"margin must be a number of at least 0, but is {self.margin}")
        if self.earns != "below_worst" and not math.isfinite(float(self.earns)):
            found.append(f"earns must be below_worst or a finite number, but is {self.earns}")
        return found

    def apply(self, rewards: Tensor, valid: Tensor) -> Tensor:
        """The rewards [G] with those of invalid summaries put in their place."""
        valid = valid & ~rewards.isnan()
        if self.earns == "below_worst":
            floor = float(rewards[valid].min()) - self.margin if valid.any() else 0.0
        else:
            floor = float(self.earns)
        return torch.where(valid, rewards, floor)


@dataclass(frozen=True)
class LengthRule:
    """Takes from a valid summary that leaves its budget unused: two safe words must not win over a full answer.

        f = min(1, length used / target) ** power        R -> R - (1 - f) |R|

    So a positive reward is multiplied by f and a negative one by 2 - f: of two summaries that earn the same before,
    the shorter one never earns more after, and of two that are as long as each other the better one stays the better.
    Multiplying a reward, instead of adding to it, is how GR3 (arXiv:2603.10535) holds answers back from being long;
    what earns nothing gains nothing by its length.

    Attributes:
        power: How steep; 0, the default, leaves all rewards as they are.
        target: Share of the budget from which on nothing is taken.
    """

    power: float = 0.0
    target: float = 0.8

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not 0 <= self.power < math.inf:
            found.append(f"power must be a number of at least 0, but is {self.power}")
        if not 0 < self.target <= 1:
            found.append(f"target must be a share of the budget above 0 and at most 1, but is {self.target}")
        return found

    def factor(self, used: Tensor) -> Tensor:
        """f of lengths used [G]; NaN where they are."""
        return torch.where(used.isnan(), used, (used / self.target).clamp_max(1.0) ** self.power)


@dataclass(frozen=True, slots=True)
class GroupRewards:
    """Rewards of one group.

    Attributes:
        total: [G] float64, what is learnt from.
        valid: [G] bool: parsed, not empty and within the budget.
        parts: Each component's [G] float64 before its weight, by name.
        counts: [G] bool: valid, and all components could tell: the total is not that of the rule for invalid ones.
        factor: [G] float64, f of the rule for lengths, NaN where there is no summary; None where the rule is off.
    """

    total: Tensor
    valid: Tensor
    parts: dict[str, Tensor]
    counts: Tensor
    factor: Tensor | None = None


def group_rewards(
    rewards: Sequence[Reward],
    invalid: InvalidRule,
    scores: Scores,
    group: Rollouts,
    scorer: Scorer,
    length: LengthRule = LengthRule(),
) -> GroupRewards:
    """Adds up the components for a group and applies the rules for lengths, then for invalid summaries.

    Raises:
        ValueError: A component's result has another shape than [G].
    """
    valid = scores.within_budget & torch.tensor([bool(s) for s in group.summaries], dtype=torch.bool)
    parts = {reward.name: reward(scores, group, scorer).double().cpu() for reward in rewards}
    for name, part in parts.items():
        if part.shape != valid.shape:
            raise ValueError(f"the reward {name!r} gave {tuple(part.shape)}: expected one number for each of the group")
    counted = [reward.weight * parts[reward.name] for reward in rewards if reward.weight]  # 0 * NaN would count
    total = sum(counted, torch.zeros(len(valid)).double())
    factor = None
    if length.power:
        factor = length.factor(budget_used(group, scorer.tokenizer))
        total = torch.where(valid, total - (1 - factor) * total.abs(), total)
    return GroupRewards(invalid.apply(total, valid), valid, parts, valid & ~total.isnan(), factor)


def budget_used(group: Rollouts, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """[G] float64, each summary's length by the longest that its budget allows; NaN where there is no summary."""
    budget, nan = group.prompt.budget, math.nan
    limit = budget.limit(group.prompt.document.text, tokenizer)
    used = [nan if s is None or not limit else budget.used(s, limit, tokenizer) for s in group.summaries]
    return torch.tensor(used, dtype=torch.float64)


def carried_measures(measures: Iterable[Measure], rewards: Iterable[Reward]) -> list[Measure]:
    """What the scorer of a run measures: what was asked for and what its rewards need, each name once."""
    found: dict[str, Measure] = {}
    for measure in (*measures, *(measure for reward in rewards for measure in reward.measures)):
        found.setdefault(measure.name, measure)
    return list(found.values())


def reward_problems(rewards: Sequence[Reward]) -> list[str]:
    """What is wrong with a list of components, a sentence each."""
    found = [] if rewards else ["rewards must name at least one"]
    for name, count in repeated(reward.name for reward in rewards).items():
        found.append(f"rewards: {count} are called {name!r}: give each a name of its own")
    return found + [f"rewards ({reward.name}): {problem}" for reward in rewards for problem in reward.problems()]
