"""The bootstrap interval of a mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from squish_pl.score.bootstrap import Estimate, bootstrap_interval, estimate


def test_constant_values_have_no_width() -> None:
    assert bootstrap_interval(torch.full((7,), 0.25, dtype=torch.float64)) == (0.25, 0.25)
    assert bootstrap_interval(torch.tensor([-3.0, -3.0])) == (-3.0, -3.0)


def test_two_values_by_hand() -> None:
    # means of two draws out of {0, 1}: 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4
    values = torch.tensor([0.0, 1.0])
    assert bootstrap_interval(values, 0.95) == (0.0, 1.0)
    assert bootstrap_interval(values, 0.55) == (0.0, 1.0)
    assert bootstrap_interval(values, 0.45) == (0.5, 0.5)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_values_tell_no_interval(count: int) -> None:
    assert all(math.isnan(end) for end in bootstrap_interval(torch.ones(count)))


@pytest.mark.parametrize(("confidence", "quantile"), [(0.95, 1.97196), (0.8, 1.28582)])
def test_near_the_t_interval_of_a_normal_sample(confidence: float, quantile: float) -> None:
    values = 3 + 2 * torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    error = float(values.std() / math.sqrt(200))
    low, high = bootstrap_interval(values, confidence, resamples=20_000)
    # the quantiles of 20,000 resampled means are known to about 0.02 standard errors
    assert low == pytest.approx(float(values.mean()) - quantile * error, abs=0.08 * error)
    assert high == pytest.approx(float(values.mean()) + quantile * error, abs=0.08 * error)


def test_covers_the_true_mean_as_often_as_it_says() -> None:
    samples = torch.randn(300, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    hits = 0
    for number, sample in enumerate(samples):
        low, high = bootstrap_interval(sample, 0.9, resamples=400, seed=number)
        hits += low <= 0 <= high
    # a percentile interval of 50 values covers about 0.89; the share of 300 is known to about 0.018
    assert 0.84 <= hits / 300 <= 0.94


def test_same_seed_same_interval_and_no_hand_on_the_global_generator() -> None:
    values = torch.arange(20.0)
    state = torch.get_rng_state()
    first = bootstrap_interval(values)
    torch.rand(3)
    assert bootstrap_interval(values) == first
    torch.set_rng_state(state)
    bootstrap_interval(values)
    assert torch.equal(torch.get_rng_state(), state)
    assert bootstrap_interval(values, seed=1) != first


def test_scales_and_shifts_with_the_values_and_widens_with_the_confidence() -> None:
    values = torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(4 * values - 1) == pytest.approx((4 * low - 1, 4 * high - 1), rel=1e-12)
    narrow_low, narrow_high = bootstrap_interval(values, 0.5)
    assert low < narrow_low < float(values.mean()) < narrow_high < high


@pytest.mark.parametrize("make", [list, iter, torch.tensor])
def test_an_estimate_is_the_mean_with_its_interval(make: Any) -> None:
    values = [0.25, 0.5, -1.0, 4.25]
    found = estimate(make(values))
    assert found == (1.0, *bootstrap_interval(torch.tensor(values, dtype=torch.float64)))
    assert (found.mean, found.low, found.high) == found
    assert found.low < 1 < found.high
    assert estimate(make(values), 0.5)[1:] == bootstrap_interval(torch.tensor(values), 0.5)


def test_an_estimate_of_one_or_no_document() -> None:
    single, none = estimate([0.75]), estimate([])
    assert single.mean == 0.75
    assert all(math.isnan(x) for x in (single.low, single.high, *none))


def test_an_estimate_as_text() -> None:
    known = Estimate(0.046512, 0.02449, 0.0667)
    assert known.text() == "0.0465 [0.024, 0.067]"
    assert known.text(2, 1) == "0.05 [0.0, 0.1]"
    assert known.interval_text() == "[0.024, 0.067]"
    single = Estimate(0.5, math.nan, math.nan)
    assert (single.text(), single.interval_text()) == ("0.5000", "")
