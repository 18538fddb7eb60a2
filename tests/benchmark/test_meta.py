"""How measures follow ratings, by hand and by the definition."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
import torch
from test_correlation import numbers, slow_kendall, slow_pearson, slow_ranks, slow_spearman

from squish_pl.benchmark.meta import (
    Rated,
    agreement,
    by_document,
    controls_of,
    difference,
    resampled,
    within_moments,
)

NAN = math.nan


def rated(ratings: list[list[float]], systems: list[list[str | None]] | None = None) -> Rated:
    rows = [numbers(*row) for row in ratings]
    controls = [torch.zeros(len(row), 2, dtype=torch.float64) for row in ratings]
    return Rated(rows, controls, systems or [[None] * len(row) for row in ratings])


def tensors(*rows: list[float]) -> list[torch.Tensor]:
    return [numbers(*row) for row in rows]


def test_by_document_by_hand() -> None:
    values = tensors([1, 2, 3, 4], [1, 2], [1, 2, 3], [5, 5, 5], [1, NAN, 2, 3], [1, NAN, 2])
    ratings = tensors([1, 3, 2, 4], [1, 2], [4, 4, 4], [1, 2, 3], [3, 9, NAN, 1], [3, 9, 1])
    rho, tau = by_document(values, ratings)
    # left out: two summaries, constant ratings, two that have both; constant values follow nothing
    assert rho.tolist() == pytest.approx([0.8, NAN, NAN, 0, NAN, NAN], nan_ok=True)
    assert tau.tolist() == pytest.approx([4 / 6, NAN, NAN, 0, NAN, NAN], nan_ok=True)


def test_agreement_by_hand() -> None:
    systems = [["a", "b", "c"], ["a", "b", "c"], [None, "b", "d"]]
    ratings = [[1, 2, 3], [1, 3, 2], [5, 5, 5]]
    values = tensors([10, 20, 30], [1, 2, 3], [7, NAN, 9])
    found = agreement(values, rated(ratings, systems), resampled(3, 50))
    assert found.within.mean == pytest.approx((1 + 0.5) / 2)
    assert found.tau["within"] == pytest.approx((1 + 1 / 3) / 2)
    assert found.documents.tolist() == pytest.approx([1, 0.5, NAN], nan_ok=True)
    assert found.summaries == 8
    flat_values, flat_ratings = [10, 20, 30, 1, 2, 3, 7, 9], [1, 2, 3, 1, 3, 2, 5, 5]
    assert found.summary.mean == pytest.approx(slow_spearman(flat_values, flat_ratings), abs=1e-12)
    assert found.tau["summary"] == pytest.approx(slow_kendall(flat_values, flat_ratings), abs=1e-12)
    # means of a b c d: values 5.5 11 16.5 9, ratings 1 2.5 2.5 5
    assert found.system.mean == pytest.approx(slow_spearman([5.5, 11, 16.5, 9], [1, 2.5, 2.5, 5]), abs=1e-12)
    assert found.tau["system"] == pytest.approx(slow_kendall([5.5, 11, 16.5, 9], [1, 2.5, 2.5, 5]), abs=1e-12)


def test_no_systems_and_too_few() -> None:
    values, ratings = tensors([1, 2, 3], [3, 1, 2]), [[1, 2, 3], [1, 2, 3]]
    for systems in (None, [["a", "b", "a"], ["a", "b", "b"]]):
        found = agreement(values, rated(ratings, systems), resampled(2, 20))
        assert math.isnan(found.system.mean)
        assert math.isnan(found.tau["system"])


def test_equal_means_of_systems_are_ties_in_whatever_order_they_were_summed() -> None:
    systems = [["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"]]
    values = tensors([0.1, 0.3, 0.9], [0.2, 0.2, 0.9], [0.3, 0.1, 0.9])
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    found = agreement(values, rated([[1, 2, 3]] * 3, systems), resampled(3, 20))
    assert found.system.mean == pytest.approx(slow_spearman([1, 1, 2], [1, 2, 3]), abs=1e-12)


def random_data(seed: int) -> tuple[list[list[float]], list[list[float]], list[list[str]], list[list[list[float]]]]:
    draw = random.Random(seed)
    sizes = [4, 6, 5, 3]
    values = [[draw.gauss(0, 1) for _ in range(n)] for n in sizes]
    ratings = [[float(draw.randint(1, 4)) for _ in range(n)] for n in sizes]
    names = [[f"s{i}" for i in range(n)] for n in sizes]
    controls = [[[float(draw.randint(10, 90)), draw.random()] for _ in range(n)] for n in sizes]
    return values, ratings, names, controls


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_intervals_are_those_of_documents_drawn_again(seed: int) -> None:
    """Every resampling by the definition: documents are copied, and all is computed from the start."""
    values, ratings, names, controls = random_data(seed)
    drawn = resampled(4, 40, seed)
    own = Rated(tensors(*ratings), [torch.tensor(c, dtype=torch.float64) for c in controls], names)
    found = agreement(tensors(*values), own, drawn)
    again: dict[str, list[float]] = {"within": [], "summary": [], "system": []}
    for row in drawn.tolist():
        picked = [i for i, count in enumerate(row) for _ in range(int(count))]
        x, y = ([v for i in picked for v in some[i]] for some in (values, ratings))
        who = [name for i in picked for name in names[i]]
        again["within"].append(fmean(slow_spearman(values[i], ratings[i]) for i in picked))
        again["summary"].append(slow_spearman(x, y))
        means = [
            [round(fmean(v for v, w in zip(side, who, strict=True) if w == name), 12) for name in sorted(set(who))]
            for side in (x, y)
        ]
        again["system"].append(slow_spearman(*means))
    for kind, statistic in again.items():
        sample = numbers(*statistic)
        sample = sample[~sample.isnan()]
        assert found.of(kind).low == pytest.approx(float(sample.quantile(0.025)), abs=1e-9)
        assert found.of(kind).high == pytest.approx(float(sample.quantile(0.975)), abs=1e-9)
    assert found.within.low < found.within.high


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_partial_is_that_of_all_ranks_within_documents(seed: int) -> None:
    values, ratings, names, controls = random_data(seed)
    own = Rated(tensors(*ratings), [torch.tensor(c, dtype=torch.float64) for c in controls], names)
    found = agreement(tensors(*values), own, resampled(4, 30))
    columns: list[list[float]] = [[], [], [], []]
    for v, r, c in zip(values, ratings, controls, strict=True):
        for column, side in zip(columns, (v, r, [a for a, _ in c], [b for _, b in c]), strict=True):
            column += [(rank - (len(v) + 1) / 2) / len(v) for rank in slow_ranks(side)]
    x, y, *others = (numbers(*column) for column in columns)
    design = torch.stack(others, dim=1)
    left = [v - design @ torch.linalg.lstsq(design, v.unsqueeze(1)).solution.squeeze(1) for v in (x, y)]
    assert found.partial.mean == pytest.approx(slow_pearson(left[0].tolist(), left[1].tolist()), abs=1e-9)
    assert found.partial.low <= found.partial.mean <= found.partial.high


def test_a_measure_that_is_its_summaries_length_has_no_partial_correlation() -> None:
    lengths = torch.tensor([[5.0, 0.1], [9.0, 0.4], [2.0, 0.2], [7.0, 0.0]], dtype=torch.float64)
    own = Rated(tensors([1, 4, 2, 2]), [lengths], [[None] * 4])
    found = agreement(tensors([50, 90, 20, 70]), own, resampled(1, 5))
    assert math.isnan(found.partial.mean)
    assert found.within.mean > 0.3


def test_documents_that_are_left_out_take_no_part_in_partial() -> None:
    values, ratings, _, controls = random_data(0)
    own = Rated(tensors(*ratings[:3], [2, 2, 2]), [torch.tensor(c, dtype=torch.float64) for c in controls], [[]] * 4)
    moments = within_moments(tensors(*values), own)
    assert moments.shape == (4, 4, 4)
    assert (moments[3] == 0).all()
    assert (moments[:3].diagonal(dim1=1, dim2=2) > 0).all()


def test_controls_by_hand() -> None:
    text = "the ferry left the quay at dawn"
    found = controls_of(text, ["ferry left the quay", "the ferry left the sea at dawn", "left the quay", ""])
    # of four 4-grams of words in the second, one stands in the text
    assert found.tolist() == [[19, 1], [30, 0.25], [13, 0], [0, 0]]
    assert controls_of(text, []).shape == (0, 2)


def test_resampled_documents() -> None:
    drawn = resampled(5, 400, seed=1)
    assert drawn.shape == (400, 5)
    assert (drawn.sum(dim=1) == 5).all()
    assert drawn.equal(resampled(5, 400, seed=1))
    assert not drawn.equal(resampled(5, 400, seed=2))
    assert drawn.mean(dim=0).tolist() == pytest.approx([1] * 5, abs=0.2)


def test_difference_by_hand() -> None:
    drawn = torch.tensor([[2.0, 0, 0], [0, 2, 0], [1, 1, 0], [0, 0, 2], [0, 1, 1]], dtype=torch.float64)
    found = difference(numbers(0.5, 0.25, NAN), numbers(0.25, 0.5, 0.75), drawn)
    # differences 0.25 and -0.25, the third document is not in both; means 0.25 -0.25 0 none -0.25
    assert found.mean.mean == 0
    assert (found.mean.low, found.mean.high) == pytest.approx((-0.25, 0.25 - 0.25 * 0.075))
    # at least 0: two, at most 0: three; 2 * (2 + 1) / (4 + 1) is above 1
    assert found.p == 1
    assert found.documents == 2
    better = difference(numbers(0.5, 0.75, 0.5), numbers(0.25, 0.5, 0.25), resampled(3, 999))
    assert better.mean == (0.25, 0.25, 0.25)
    assert better.p == 2 / 1000
    assert math.isnan(difference(numbers(NAN, 1), numbers(1, NAN), resampled(2, 9)).p)


def test_the_bootstrap_has_the_size_it_claims() -> None:
    """Of tests between two measures that follow alike, about one in twenty is significant."""
    generator = torch.Generator().manual_seed(0)
    drawn = resampled(40, 300)
    values = [difference(*(torch.randn(2, 40, generator=generator, dtype=torch.float64)), drawn).p for _ in range(300)]
    assert 0.02 < fmean(p < 0.05 for p in values) < 0.1
