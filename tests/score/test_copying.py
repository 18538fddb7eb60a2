"""Copies with changes in them, and what copying alone would save, against slow computations and by hand."""

from __future__ import annotations

import math
import random

import pytest
import torch

from squish_pl.score.novelty import aligned_copies, copied_nats, longest_copies


def slow_alignment(document: list[int], summary: list[int], cost: float) -> list[float]:
    """Smith-Waterman by its recurrence, cell by cell, from both ends."""

    def best_before(a: list[int], b: list[int]) -> list[list[float]]:
        best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                own = 1.0 if a[i - 1] == b[j - 1] else -cost
                best[i][j] = max(0.0, best[i - 1][j - 1] + own, best[i - 1][j] - cost, best[i][j - 1] - cost)
        return best

    there, back = best_before(document, summary), best_before(document[::-1], summary[::-1])
    found = []
    for i, token in enumerate(document):
        values = [0.0]
        for j, other in enumerate(summary):
            own = 1.0 if token == other else -cost
            before, behind = there[i][j], back[len(document) - 1 - i][len(summary) - 1 - j]
            if own > 0 or (before > 0 and behind > 0):
                values.append(before + own + behind)
        found.append(max(values))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_alignments_equal_slow_ones(seed: int) -> None:
    draw = random.Random(seed)
    document = [draw.randrange(4) for _ in range(draw.randrange(1, 25))]
    summary = [draw.randrange(4) for _ in range(draw.randrange(1, 12))]
    cost = draw.choice([0.25, 0.5, 1.0])
    assert aligned_copies(document, summary, cost).tolist() == pytest.approx(slow_alignment(document, summary, cost))


def test_alignments_by_hand() -> None:
    # verbatim: as long as the run
    assert aligned_copies([1, 2, 3, 4, 9], [1, 2, 3, 4]).tolist() == [4, 4, 4, 4, 0]
    # one token changed, one left out, one put in: each costs a half, and the changed one is inside
    assert aligned_copies([1, 2, 3, 4, 5], [1, 2, 8, 4, 5]).tolist() == [3.5] * 5
    assert aligned_copies([1, 2, 3, 4, 5], [1, 2, 4, 5]).tolist()[:2] == [3.5, 3.5]
    assert aligned_copies([1, 2, 4, 5], [1, 2, 3, 4, 5]).tolist() == [3.5] * 4
    # every third word changed: pieces of two for the exact rule, one copy for this one
    document, summary = list(range(9)), [0, 1, 99, 3, 4, 99, 6, 7, 99]
    assert longest_copies(document, summary).tolist() == [2, 2, 0, 2, 2, 0, 2, 2, 0]
    assert aligned_copies(document, summary).tolist() == [5, 5, 5, 5, 5, 5, 5, 5, 0]
    assert aligned_copies([1, 2], []).tolist() == [0, 0]
    assert aligned_copies([], [1]).tolist() == []


def test_an_exact_run_is_worth_at_least_its_length() -> None:
    draw = random.Random(5)
    for _ in range(20):
        document, summary = ([draw.randrange(5) for _ in range(20)] for _ in range(2))
        assert (aligned_copies(document, summary) >= longest_copies(document, summary)).all()


def test_copied_nats_by_hand() -> None:
    information = torch.tensor([math.log(4), math.log(4), math.log(4)], dtype=torch.float64)
    # no context at first: two summary tokens alike; then "7" stood before, so "8" is e^2 times as likely as "7"
    found = copied_nats([7, 8, 5], information, [7, 8], share=0.5, sharpness=2.0)
    first = math.log(0.5 / 4 + 0.5 * 0.5) + math.log(4)
    second = math.log(0.5 / 4 + 0.5 * math.e**2 / (1 + math.e**2)) + math.log(4)
    assert found.tolist() == pytest.approx([first, second, 0.0])
    assert copied_nats([7], information[:1], []).tolist() == [0]


def test_context_stops_counting() -> None:
    information = torch.full((5,), math.log(10), dtype=torch.float64)
    found = copied_nats([1, 2, 3, 4, 5], information, [1, 2, 3, 4, 5], share=0.9, sharpness=1.0, longest=2)
    weight = math.e**2 / (4 + math.e**2)  # from the third token on: never more than two of context
    expected = math.log(0.1 / 10 + 0.9 * weight) + math.log(10)
    assert found[2:].tolist() == pytest.approx([expected] * 3)
