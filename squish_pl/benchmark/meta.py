"""How well a measure follows people's ratings: rank correlations with intervals over documents.

    D  documents    G  summaries of a document    R  resamplings of the documents    N  all summaries

A summary without a value (NaN) or without a rating is left out of everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from squish_pl.benchmark.correlation import kendall, partial, ranks, row_spearman, spearman, weighted_spearman
from squish_pl.score.bootstrap import Estimate

RESAMPLES = 1000
LEAST = 3  #: summaries of a document, or systems, that a correlation is made of
KINDS = ("within", "summary", "system", "partial")


@dataclass(frozen=True)
class Rated:
    """Summaries with their ratings in one aspect.

    Attributes:
        ratings: For each of D documents [G] float64; NaN where a summary has none.
        controls: For each document [G, K] float64: what "partial" is corrected for.
        systems: For each document who wrote each summary; None where nobody says.
    """

    ratings: Sequence[Tensor]
    controls: Sequence[Tensor]
    systems: Sequence[Sequence[str | None]]


@dataclass(frozen=True)
class Agreement:
    """How well a measure follows ratings; Spearman's rho unless said otherwise, with 95 % intervals over documents.

    Attributes:
        within: Mean over documents of the correlation among a document's summaries; see `by_document`.
        summary: Over all summaries of all documents.
        system: Over systems' means; NaN with fewer than three systems.
        partial: Of ranks within documents, after least squares on the ranks of the controls; see `within_moments`.
        tau: Kendall's tau-b by kind, for all but "partial".
        documents: [D] the correlation in each document; NaN where it is left out of `within`.
        summaries: How many have a value and a rating.
    """

    within: Estimate
    summary: Estimate
    system: Estimate
    partial: Estimate
    tau: dict[str, float]
    documents: Tensor
    summaries: int

    def of(self, kind: str) -> Estimate:
        """One of `KINDS`."""
        return {"within": self.within, "summary": self.summary, "system": self.system, "partial": self.partial}[kind]


@dataclass(frozen=True)
class Difference:
    """How much better a measure follows ratings within documents than another, over the documents that both have.

    Attributes:
        mean: With its interval.
        p: Two-sided, of the paired bootstrap: twice the smaller share of resampled differences on one side of zero.
        documents: How many both have.
    """

    mean: Estimate
    p: float
    documents: int


def resampled(documents: int, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each document is drawn when all are drawn again with replacement (Efron 1979): [R, D] float64."""
    drawn = torch.randint(documents, (resamples, documents), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(resamples, documents, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(resamples, documents, dtype=torch.float64)
    )


def agreement(values: Sequence[Tensor], rated: Rated, drawn: Tensor) -> Agreement:
    """How well one measure follows the ratings.

    Args:
        values: For each document [G] float64, the measure's values.
        rated: People's.
        drawn: [R, D], see `resampled`; the same for all measures that are compared.
    """
    # the first row is the data itself
    weights = torch.cat([torch.ones(1, len(values), dtype=torch.float64), drawn])
    there = [~(v.isnan() | r.isnan()) for v, r in zip(values, rated.ratings, strict=True)]
    x, y = (torch.cat([v[t].double() for v, t in zip(some, there, strict=True)]) for some in (values, rated.ratings))
    owner = torch.cat([torch.full((int(t.sum()),), i) for i, t in enumerate(there)])
    names = [name for own, t in zip(rated.systems, there, strict=True) for name, ok in zip(own, t, strict=True) if ok]
    x_means, y_means, present = _system_means(x, y, names, weights[:, owner])
    rho, tau = by_document(values, rated.ratings)
    moments = within_moments(values, rated)
    return Agreement(
        within=_estimate(_weighted_means(rho, weights)),
        summary=_estimate(weighted_spearman(x, y, weights[:, owner])),
        system=_estimate(_of_systems(x_means, y_means, present)),
        partial=_estimate(partial(torch.einsum("rd,dij->rij", weights, moments))),
        tau={
            "within": float(tau.nanmean()),
            "summary": kendall(x, y),
            "system": kendall(x_means[0], y_means[0]) if present.shape[1] >= LEAST else math.nan,
        },
        documents=rho,
        summaries=len(x),
    )


def difference(one: Tensor, other: Tensor, drawn: Tensor) -> Difference:
    """The paired bootstrap test of two measures on the same documents.

    Args:
        one: [D] correlations, NaN where there is none.
        other: [D] of the measure that it is compared with.
        drawn: [R, D], see `resampled`.
    """
    weights = torch.cat([torch.ones(1, len(one), dtype=torch.float64), drawn])
    means = _weighted_means(one - other, weights)
    again = means[1:][~means[1:].isnan()]
    side = min(int((again <= 0).sum()), int((again >= 0).sum()))
    p = min(1.0, 2 * (side + 1) / (len(again) + 1)) if len(again) else math.nan
    return Difference(_estimate(means), p, int((~(one - other).isnan()).sum()))


def by_document(values: Sequence[Tensor], ratings: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Correlation among the summaries of each document: ([D] Spearman's rho, [D] Kendall's tau-b).

    NaN where fewer than three summaries have a value and a rating, or all ratings are equal: nobody could follow them.
    0 where all values are equal: the measure tells nothing then, but could have.
    """
    found = []
    for v, r in zip(values, ratings, strict=True):
        v, r = _both(v, r)
        if not _can_be_followed(r):
            found.append((math.nan, math.nan))
        else:
            found.append((0.0, 0.0) if bool((v == v[0]).all()) else (spearman(v, r), kendall(v, r)))
    rho, tau = torch.tensor(found, dtype=torch.float64).reshape(-1, 2).unbind(dim=1)
    return rho, tau


def within_moments(values: Sequence[Tensor], rated: Rated) -> Tensor:
    """Sums of products of the ranks within each document: value, rating, controls.

    Ranks are centred and divided by the number of summaries. Documents that `by_document` leaves out are zero. A
    document alone has too few summaries for a correction, so one is made for all of them together.

    Returns:
        [D, 2 + K, 2 + K] float64.
    """
    moments = []
    for v, r, controls in zip(values, rated.ratings, rated.controls, strict=True):
        there = ~(v.isnan() | r.isnan())
        columns = [v[there], r[there], *controls[there].unbind(dim=1)]
        ranked = torch.stack([ranks(column) for column in columns], dim=1)
        centred = (ranked - (len(ranked) + 1) / 2) / max(1, len(ranked))
        moments.append(centred.T @ centred * float(_can_be_followed(r[there])))
    return torch.stack(moments)


def controls_of(text: str, summaries: Sequence[str], n: int = 4) -> Tensor:
    """[G, 2] what "partial" is corrected for: length in characters, share of word n-grams that the document has."""
    known = set(_ngrams(text, n))
    rows = []
    for summary in summaries:
        said = _ngrams(summary, n)
        rows.append([float(len(summary)), sum(gram in known for gram in said) / max(1, len(said))])
    return torch.tensor(rows, dtype=torch.float64).reshape(len(summaries), 2)


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _both(values: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor]:
    there = ~(values.isnan() | ratings.isnan())
    return values[there], ratings[there]


def _can_be_followed(ratings: Tensor) -> bool:
    return len(ratings) >= LEAST and not bool((ratings == ratings[0]).all())


def _weighted_means(values: Tensor, weights: Tensor) -> Tensor:
    """[D] with NaN for what is left out, [R, D] -> [R]; NaN where nothing is left."""
    there = (~values.isnan()).double()
    return (weights @ values.nan_to_num()) / (weights @ there)


def _system_means(x: Tensor, y: Tensor, names: Sequence[str | None], weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """([R, S] of x, [R, S] of y, [R, S] whether the system has summaries in the sample)."""
    systems = sorted({name for name in names if name is not None})
    place = {name: i for i, name in enumerate(systems)}
    known = torch.tensor([name is not None for name in names], dtype=torch.bool)
    index = torch.tensor([place[name] for name in names if name is not None], dtype=torch.long)
    weights = weights[:, known]

    def sums(values: Tensor) -> Tensor:
        return torch.zeros(len(weights), len(systems), dtype=torch.float64).index_add_(1, index, values)

    count = sums(weights)
    x_sum, y_sum = sums(weights * x[known]), sums(weights * y[known])
    # rounded: equal means must be ties, whatever order they were summed in
    x_mean, y_mean = (_rounded(total / count.clamp_min(1)) for total in (x_sum, y_sum))
    return x_mean, y_mean, count > 0


def _rounded(values: Tensor) -> Tensor:
    scale = values.abs().max() * 1e-12 if values.numel() else torch.ones(())
    return (values / scale).round() if float(scale) > 0 else values


def _of_systems(x: Tensor, y: Tensor, present: Tensor) -> Tensor:
    if present.shape[1] < LEAST:
        return torch.full((len(present),), math.nan, dtype=torch.float64)
    return row_spearman(x, y, present)


def _estimate(statistic: Tensor) -> Estimate:
    """Of [1 + R]: the data's own first, then those of resampled data."""
    mean, again = float(statistic[0]), statistic[1:]
    if math.isnan(mean) or bool(again.isnan().all()):
        return Estimate(mean, math.nan, math.nan)
    low, high = torch.nanquantile(again, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(mean, low, high)
