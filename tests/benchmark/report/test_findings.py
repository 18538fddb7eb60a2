"""What follows from findings, by figures worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from squish_pl.benchmark.report.findings import ShownDocument, ShownSummary, most_frequent, shade_limit


def saving(*rows: Sequence[float] | None) -> ShownDocument:
    """A document of as many spans as nats saved, with a summary for each row of them."""
    summaries = [ShownSummary("a", "5%", number, "s", saved=row) for number, row in enumerate(rows)]
    return ShownDocument("t", "x" * 200, "r", 1.0, [], [], summaries)


def test_the_limit_of_shades_passes_over_the_rarest_of_all_summaries() -> None:
    rising = [float(number) for number in range(101)]
    assert shade_limit(saving(rising)) == 98.0
    # sizes 0, 0, 1, 1, ..., 100, 100: place 0.98 * 201 = 196.98 lies between two 98
    assert shade_limit(saving(rising, None, [-number for number in rising])) == 98.0
    # among twice as many sizes, half of them 0, 0.98 * 201 = 196.98 is 0.98 of the way from 95 to 96
    assert shade_limit(saving(rising, [0.0] * 101)) == pytest.approx(95.98, abs=1e-12)
    assert shade_limit(saving([1.0, math.nan, math.inf])) == 1.0


def test_noise_is_not_shaded_like_savings() -> None:
    assert [shade_limit(saving(*rows)) for rows in ((), (None,), ([],), ([0.02, -0.05],))] == [0.1] * 4


def test_the_most_frequent_reasons() -> None:
    reasons = [(f"reason {number}", 30 - number) for number in range(23)]
    assert most_frequent(reasons) == (reasons[:20], 10 + 9 + 8)
    assert most_frequent(reasons, 22) == (reasons[:22], 8)
    assert most_frequent(reasons, 23) == (reasons, 0)
    assert most_frequent(()) == ((), 0)
