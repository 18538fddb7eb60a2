"""How sure a mean over documents is."""

from __future__ import annotations

import torch
from torch import Tensor


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
        (low, high); NaN for no values.
    """
    if values.numel() == 0:
        return float("nan"), float("nan")
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
