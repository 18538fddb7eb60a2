"""Rank correlations by hand, by the definition, and by their laws."""

from __future__ import annotations

import math
import random
from itertools import combinations
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples

from squish_pl.benchmark.correlation import (
    kendall,
    partial,
    ranks,
    row_spearman,
    spearman,
    weighted_ranks,
    weighted_spearman,
)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slow_ranks(values: list[float]) -> list[float]:
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def slow_pearson(x: list[float], y: list[float]) -> float:
    a, b = [v - fmean(x) for v in x], [v - fmean(y) for v in y]
    spread = sum(v * v for v in a) * sum(v * v for v in b)
    return sum(v * w for v, w in zip(a, b, strict=True)) / math.sqrt(spread) if spread > 1e-12 else math.nan


def slow_spearman(x: list[float], y: list[float]) -> float:
    return slow_pearson(slow_ranks(x), slow_ranks(y))


def slow_kendall(x: list[float], y: list[float]) -> float:
    pairs = list(combinations(range(len(x)), 2))
    agree = sum((x[i] > x[j]) == (y[i] > y[j]) for i, j in pairs if x[i] != x[j] and y[i] != y[j])
    differ = sum((x[i] > x[j]) != (y[i] > y[j]) for i, j in pairs if x[i] != x[j] and y[i] != y[j])
    untied = sum(x[i] != x[j] for i, j in pairs) * sum(y[i] != y[j] for i, j in pairs)
    return (agree - differ) / math.sqrt(untied) if untied else math.nan


def test_ranks_by_hand() -> None:
    assert ranks(numbers(0.3, 10, 0.3, -2, 0.3)).tolist() == [3, 5, 3, 1, 3]
    assert ranks(numbers(4, 4)).tolist() == [1.5, 1.5]
    assert ranks(numbers()).tolist() == []


def test_spearman_by_hand() -> None:
    # without ties: 1 - 6 sum d^2 / (n (n^2 - 1)), d = 0 0 -1 1, n = 4
    assert spearman(numbers(2, 2.5, 3, 9), numbers(0, 5, 20, 7)) == pytest.approx(1 - 6 * 2 / 60)
    # ranks 1 2.5 2.5 4 and 1 2 3 4: 4.5 / sqrt(4.5 * 5)
    assert spearman(numbers(0, 1, 1, 2), numbers(1, 2, 3, 4)) == pytest.approx(math.sqrt(4.5 / 5))
    assert spearman(numbers(1, 2, 3), numbers(3, 2, 1)) == pytest.approx(-1)


def test_kendall_by_hand() -> None:
    # pairs of (0 1 1 2) and (1 3 2 4): 5 agree, 1 is tied in x: 5 / sqrt(5 * 6)
    assert kendall(numbers(0, 1, 1, 2), numbers(1, 3, 2, 4)) == pytest.approx(5 / math.sqrt(30))
    # 1 2 3 4 and 1 3 2 4: 5 agree, 1 does not
    assert kendall(numbers(1, 2, 3, 4), numbers(1, 3, 2, 4)) == pytest.approx(4 / 6)


@pytest.mark.parametrize("x", [numbers(), numbers(3), numbers(5, 5, 5), numbers(0.1, 0.1, 0.1, 0.1, 0.1)])
def test_nothing_follows_what_is_constant(x: torch.Tensor) -> None:
    y = torch.arange(len(x), dtype=torch.float64)
    for function in (spearman, kendall):
        assert math.isnan(function(x, y))
        assert math.isnan(function(y, x))


PAIRS = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=14)


@given(pairs=PAIRS)
@few_examples(150)
def test_by_the_definition_and_its_laws(pairs: list[tuple[int, int]]) -> None:
    x, y = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    a, b = numbers(*x), numbers(*y)
    assert ranks(a).tolist() == slow_ranks(x)
    for function, slow in ((spearman, slow_spearman), (kendall, slow_kendall)):
        found = function(a, b)
        assert found == pytest.approx(slow(x, y), abs=1e-12, nan_ok=True)
        assert math.isnan(found) or -1 <= found <= 1
        assert function(b, a) == pytest.approx(found, abs=1e-12, nan_ok=True)
        assert function(-a, b) == pytest.approx(-found, abs=1e-12, nan_ok=True)
        assert function(a.exp(), b * 3 - 7) == pytest.approx(found, abs=1e-12, nan_ok=True)  # only the order counts


@given(pairs=PAIRS, seed=st.integers(0, 999))
@few_examples(100)
def test_weights_are_copies(pairs: list[tuple[int, int]], seed: int) -> None:
    x, y = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    draw = random.Random(seed)
    rows = [[draw.randint(0, 3) for _ in pairs] for _ in range(4)]
    weights = torch.tensor(rows, dtype=torch.float64)
    found = weighted_spearman(numbers(*x), numbers(*y), weights)
    own = weighted_ranks(numbers(*x), weights)
    for row, rho, ranked in zip(rows, found.tolist(), own.tolist(), strict=True):
        copies = [[v for v, count in zip(side, row, strict=True) for _ in range(count)] for side in (x, y)]
        expected = slow_spearman(*copies) if copies[0] else math.nan
        assert rho == pytest.approx(expected, abs=1e-12, nan_ok=True)
        kept = [r for r, count in zip(ranked, row, strict=True) for _ in range(count)]
        assert kept == slow_ranks(copies[0])


@given(pairs=PAIRS, seed=st.integers(0, 999))
@few_examples(60)
def test_rows_with_items_missing(pairs: list[tuple[int, int]], seed: int) -> None:
    draw = random.Random(seed)
    present = torch.tensor([[draw.random() < 0.7 for _ in pairs] for _ in range(3)])
    x, y = (numbers(*(float(pair[side]) for pair in pairs)) for side in (0, 1))
    rows = torch.stack([x, -x, x * 2]), torch.stack([y, y, y.flip(0)])
    found = row_spearman(*rows, present)
    for i in range(3):
        a, b = (side[i][present[i]].tolist() for side in rows)
        expected = slow_spearman(a, b) if a else math.nan
        assert float(found[i]) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_partial_is_the_correlation_of_residuals() -> None:
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    x = others @ numbers(2, -1) + noise[:, 0]
    y = others @ numbers(1, 3) + 0.5 * noise[:, 0] + noise[:, 1]
    columns = torch.stack([x, y, *others.unbind(1)], dim=1)
    columns = columns - columns.mean(dim=0)
    design = torch.cat([torch.ones(40, 1, dtype=torch.float64), others], dim=1)
    left = [v - design @ torch.linalg.lstsq(design, v.unsqueeze(1)).solution.squeeze(1) for v in (x, y)]
    expected = slow_pearson(left[0].tolist(), left[1].tolist())
    assert abs(expected - slow_pearson(x.tolist(), y.tolist())) > 0.2  # the correction changes something
    assert float(partial((columns.T @ columns).unsqueeze(0))) == pytest.approx(expected, abs=1e-12)


def test_partial_where_others_are_constant_or_explain_everything() -> None:
    moments = torch.tensor([[4.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(partial(moments.unsqueeze(0))) == pytest.approx(0.5)
    alike = torch.tensor([[4.0, 3.0, 4.0], [3.0, 9.0, 3.0], [4.0, 3.0, 4.0]], dtype=torch.float64)
    assert math.isnan(float(partial(alike.unsqueeze(0))))
    assert math.isnan(float(partial(torch.zeros(1, 4, 4, dtype=torch.float64))))
