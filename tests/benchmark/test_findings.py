"""What follows from findings, by figures worked out by hand."""

from __future__ import annotations

from squish_pl.benchmark.findings import most_frequent


def test_the_most_frequent_reasons() -> None:
    reasons = [(f"reason {number}", 30 - number) for number in range(23)]
    assert most_frequent(reasons) == (reasons[:20], 10 + 9 + 8)
    assert most_frequent(reasons, 22) == (reasons[:22], 8)
    assert most_frequent(reasons, 23) == (reasons, 0)
    assert most_frequent(()) == ((), 0)
