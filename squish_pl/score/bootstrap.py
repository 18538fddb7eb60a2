"""How sure a mean over documents is: the one mean with its interval, for validation, leaderboard and metric."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """A mean over documents with its 95 % bootstrap interval: NaN without documents, the interval without two."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 4, interval_digits: int = 3) -> str:
        """ "0.0465 [0.024, 0.067]"; the mean alone where there is no interval."""
        mean = f"{self.mean:.{digits}f}"
        return mean if math.isnan(self.low) else f"{mean} {self.interval_text(interval_digits)}"

    def interval_text(self, digits: int = 3) -> str:
        """ "[0.024, 0.067]"; empty where there is no interval."""
        return "" if math.isnan(self.low) else f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"


def estimate(values: Tensor | Iterable[float], confidence: float = 0.95) -> Estimate:
    """The mean of one value per document, with its interval; see `bootstrap_interval`."""
    numbers = values if isinstance(values, Tensor) else torch.tensor(list(values), dtype=torch.float64)
    numbers = numbers.detach().double().cpu().flatten()
    # summed exactly: equal values in another order have the same mean, to the last digit
    mean = fmean(numbers.tolist()) if len(numbers) else math.nan
    return Estimate(mean, *bootstrap_interval(numbers, confidence))


def bootstrap_interval(
    values: Tensor, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979): documents are drawn again with replacement.

    Args:
        values: [N] one value per document.
        confidence: Share of resampled means inside the interval.
        resamples: How often the documents are drawn again.
        seed: The same values give the same interval.

    Returns:
        (low, high); NaN for fewer than two values: a single document does not tell how much documents vary.
    """
    if values.numel() < 2:
        return math.nan, math.nan
    generator = torch.Generator().manual_seed(seed)
    values = values.detach().double().cpu().flatten()
    at_a_time = max(1, 250_000 // values.numel())
    means = torch.cat(
        [
            values[
                torch.randint(values.numel(), (min(at_a_time, resamples - done), values.numel()), generator=generator)
            ].mean(dim=1)
            for done in range(0, resamples, at_a_time)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
