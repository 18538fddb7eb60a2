"""Rank correlations, with ties at their average rank; all take weights, so that resampled data cost no copies.

N  items    R  resamplings, each a row of weights: how often an item was drawn
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NOTHING = 1e-12  # a variance below this share of what it was made of is rounding


def ranks(values: Tensor) -> Tensor:
    """[N] -> [N] float64 ranks from 1 up; ties get their average rank."""
    return weighted_ranks(values, torch.ones(1, len(values), dtype=torch.float64))[0]


def weighted_ranks(values: Tensor, weights: Tensor) -> Tensor:
    """Ranks in samples that hold each item as often as its weight says.

    Args:
        values: [N], the same in every sample.
        weights: [R, N] float64, 0 for an item that is not there (its rank means nothing).

    Returns:
        [R, N] float64.
    """
    different, place = values.unique(return_inverse=True)  # sorted
    counts = torch.zeros(len(weights), len(different), dtype=torch.float64).index_add_(1, place, weights)
    return (counts.cumsum(dim=1) - counts + (counts + 1) / 2)[:, place]


def pearson(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Weighted Pearson correlation, [R, N] of each -> [R]; NaN where one of both is constant or nothing is there."""
    total = weights.sum(dim=1, keepdim=True)
    x, y = (v - (weights * v).sum(dim=1, keepdim=True) / total for v in (x, y))
    spread = (weights * x * x).sum(dim=1) * (weights * y * y).sum(dim=1)
    # a mean of equal numbers may be off by a rounding
    size = (weights * weights).sum(dim=1)
    return torch.where(spread > _NOTHING * size, (weights * x * y).sum(dim=1) / spread.sqrt(), math.nan).clamp(-1, 1)


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rho of [N] and [N]: Pearson's correlation of the ranks; NaN where one of both is constant."""
    return float(weighted_spearman(x, y, torch.ones(1, len(x), dtype=torch.float64)))


def weighted_spearman(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Spearman's rho of [N] and [N] in each of R samples, [R, N] weights -> [R]."""
    return pearson(weighted_ranks(x, weights), weighted_ranks(y, weights), weights)


def kendall(x: Tensor, y: Tensor) -> float:
    """Kendall's tau-b of [N] and [N] (Kendall 1945); NaN where one of both is constant.

    (concordant - discordant pairs) / sqrt(pairs not tied in x * pairs not tied in y)
    """
    over = torch.triu_indices(len(x), len(x), offset=1)
    a, b = ((v[over[0]] - v[over[1]]).sign().double() for v in (x, y))
    untied = float(a.abs().sum() * b.abs().sum())
    return float((a * b).sum()) / math.sqrt(untied) if untied else math.nan


def partial(moments: Tensor) -> Tensor:
    """Correlation of the first two variables after least squares on all others.

    Args:
        moments: [R, K, K] sums of products of K centred variables.

    Returns:
        [R]; NaN where the others explain one of the two wholly.
    """
    inner, across, others = moments[:, :2, :2], moments[:, :2, 2:], moments[:, 2:, 2:]
    left = inner - across @ torch.linalg.pinv(others, hermitian=True) @ across.transpose(1, 2)
    before, after = (m.diagonal(dim1=1, dim2=2) for m in (inner, left))
    known = (after > 1e-9 * before).all(dim=1)
    return torch.where(known, left[:, 0, 1] / after.clamp_min(0).prod(dim=1).sqrt(), math.nan).clamp(-1, 1)


def row_spearman(x: Tensor, y: Tensor, present: Tensor) -> Tensor:
    """Spearman's rho of each row, [R, S] of each -> [R]; `present` [R, S] bool says which items a row has."""
    weights = present.double()
    return pearson(_row_ranks(x, present), _row_ranks(y, present), weights)


def _row_ranks(values: Tensor, present: Tensor) -> Tensor:
    at_a_time = max(1, 4_000_000 // max(1, values.shape[1] ** 2))
    pieces = []
    for v, there in zip(values.split(at_a_time), present.split(at_a_time), strict=True):
        mine, others = v.unsqueeze(2), v.unsqueeze(1)
        below, alike = (((other & there.unsqueeze(1)).sum(dim=2)) for other in (others < mine, others == mine))
        pieces.append(below + (alike + 1) / 2)
    return torch.where(present, torch.cat(pieces).double(), 0.0)
