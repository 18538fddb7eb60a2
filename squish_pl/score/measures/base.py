"""What all measures are: candidate scores, each a small function of what passes through the reference tell.

    d_t = nats that the summary saves on document token t    I = nats of the document alone    (see `Evidence`)

Those made of d_t are 0 for a summary that is missing, empty or over its budget. Those made of the summary's own
likelihood alone have no natural zero: such a summary gets NaN, and is left out of correlations.
"""

from __future__ import annotations

import abc
import math
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from squish_pl.errors import SquishError, repeated
from squish_pl.score.evidence import Evidence, Need
from squish_pl.types import Scores


class Measure(abc.ABC):
    """A candidate score.

    Attributes:
        name: As tables show it: the class's name in small letters, then its arguments. Two with the same name are
            the same measure.
        needs: What it is made of beside the savings, by `Evidence`'s names.
        has_zero: Whether a summary that is missing, empty or over its budget is worth 0; else it gets NaN.
    """

    needs: frozenset[Need] = frozenset()
    has_zero: bool = True

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @property
    def key(self) -> str:
        """The name as part of a dashboard's keys; see `measure_key`."""
        return measure_key(self.name)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    @abc.abstractmethod
    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        """[G] float64, the value of each summary.

        Args:
            evidence: A document and its summaries.
            batch: All that is measured together, this one among it; for measures that compare documents.
        """

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        return []


def needs_of(measures: Iterable[Measure]) -> frozenset[Need]:
    """All that some measures are made of beside the savings."""
    return frozenset[Need]().union(*(measure.needs for measure in measures))


def measure_key(name: str) -> str:
    """A measure's name with underscores for spaces and signs: "0.5 squish + 0.5 novel 4" is 0.5_squish_0.5_novel_4."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


TITLES = {"squish": "SQUISH", "novel": "SQUISH-novel"}  #: of the scores that are measured anyway, by their keys


def score_title(key: str) -> str:
    """What people read for a score's key, or a measure's name."""
    return TITLES.get(key, key)


def measured(scores: Scores, measure: Measure) -> Tensor:
    """[G] of a measure, out of what a scorer gave.

    Raises:
        SquishError: The scorer does not carry it.
    """
    if measure.name not in scores.measures:
        raise not_carried(measure, scores.measures)
    return scores.measures[measure.name]


def not_carried(measure: Measure, carried: Iterable[str]) -> SquishError:
    """For a measure whose values are wanted of a scorer that was not asked for it."""
    found = ", ".join(carried) or "none"
    return SquishError(f"the scorer does not carry the measure {measure.name!r} (it has {found}): pass it as measures=")


def measure_problems(measures: Sequence[Measure]) -> list[str]:
    """What is wrong with a list of measures, a sentence each."""
    found = [f"measures: {count} are {name!r}" for name, count in repeated(m.name for m in measures).items()]
    return found + [f"measures: {one.name}: {problem}" for one in measures for problem in one.problems()]


def row_sums(nats: Tensor) -> Tensor:
    """[G, T] -> [G], each row by itself: how many others there are must not change the last bit of a sum."""
    return stacked([row.sum() for row in nats])


def share(evidence: Evidence, nats: Tensor) -> Tensor:
    """Nats by those of the document; 0 for what does not count, and where there is nothing to save."""
    total = evidence.total
    return torch.where(evidence.within_budget & (total > 0), nats / (total or 1.0), torch.zeros_like(nats))


def missing(need: Need) -> ValueError:
    """For a measure that is made of what nobody asked for."""
    return ValueError(f"the evidence has no {need}: ask for it with needs={{{need!r}}}")


def stacked(numbers: Sequence[Tensor]) -> Tensor:
    """[G] of G numbers."""
    return torch.stack(list(numbers)) if numbers else torch.zeros(0, dtype=torch.float64)


def at_least_one(**settings: int) -> list[str]:
    """What is wrong with whole numbers, by their names."""
    return [f"{name} must be at least 1, but is {value}" for name, value in settings.items() if value < 1]


def above_zero(**settings: float) -> list[str]:
    """What is wrong with numbers, by their names."""
    return [
        f"{name} must be a finite number above 0, but is {value}"
        for name, value in settings.items()
        if not 0 < value < math.inf
    ]
