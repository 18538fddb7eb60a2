"""Sums of measures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from squish_pl.score.evidence import Evidence, Need
from squish_pl.score.measures.base import Measure, needs_of


class Weighted(Measure):
    """sum_i weight_i * measure_i; NaN where one of them is."""

    def __init__(self, parts: list[tuple[Measure, float]]) -> None:
        self.parts = parts

    @property
    def name(self) -> str:
        return " + ".join(f"{weight:g} {_bracketed(measure)}" for measure, weight in self.parts)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]  # of its parts
        return needs_of(measure for measure, _ in self.parts)

    @property
    def has_zero(self) -> bool:  # type: ignore[override]
        return all(measure.has_zero for measure, _ in self.parts)

    def __call__(self, evidence: Evidence, batch: Sequence[Evidence]) -> Tensor:
        total = torch.zeros(evidence.size, dtype=torch.float64)
        for measure, weight in self.parts:
            total = total + weight * measure(evidence, batch)
        return total

    def problems(self) -> list[str]:
        found = [] if self.parts else ["parts must name at least one measure with its weight"]
        for measure, weight in self.parts:
            found += [f"{measure.name}: {problem}" for problem in measure.problems()]
            if not math.isfinite(weight):
                found.append(f"the weight of {measure.name} must be a finite number, but is {weight}")
        return found


def _bracketed(measure: Measure) -> str:
    return f"({measure.name})" if isinstance(measure, Weighted) else measure.name
