"""Rows of the learning batch, and slices of it."""

import pytest
import torch
from groups import make_group

from squish_pl.rl.experience import make_experience, micro_batches
from squish_pl.types import Experience, groups_of


def test_experience_rows_carry_their_share_of_the_loss():
    groups = [make_group([1, 3]), make_group([2, 2]), make_group([4, 4])]
    advantages = torch.tensor([[0.5, -0.5], [0.0, 0.0], [1.0, -1.0]])
    rows = make_experience(groups, advantages, skip=torch.tensor([False, True, False]))
    assert [len(row.completion_ids) for row in rows] == [1, 3, 4, 4]
    assert [row.advantage for row in rows] == [0.5, -0.5, 1.0, -1.0]
    # every document, skipped ones too, counts a third; within it every generated token the same
    assert [row.weight for row in rows] == pytest.approx([1 / 12, 1 / 12, 1 / 24, 1 / 24], rel=1e-12)
    assert rows[1].completion_ids.tolist() == [3, 4, 5]


def tokens(rows):
    """A prompt's tokens once for its group, and the completions'."""
    return sum(len(group[0].prompt_ids) + sum(len(row.completion_ids) for row in group) for group in groups_of(rows))


def make_rows(groups):
    rows = []
    for p, lengths in groups:
        prompt = torch.zeros(p)
        rows += [Experience(prompt, torch.zeros(n), torch.zeros(n), 0.0, 0.0) for n in lengths]
    return rows


@pytest.mark.parametrize(
    ("most", "whole", "expected"),
    [
        (100, None, [5]),  # everything at once: 10 + 3 + 3 + 3, 5 + 1 + 2
        (27, None, [5]),
        (26, None, [3, 2]),  # a group is not taken apart to fill a slice
        (27, 20, [3, 2]),
        (16, None, [2, 1, 2]),  # too long for one slice: as many completions as fit
        (13, None, [1, 1, 1, 2]),
        (1, None, [1, 1, 1, 1, 1]),  # a single completion may take more
    ],
)
def test_slices_by_a_token_budget(most, whole, expected):
    rows = make_rows([(10, [3, 3, 3]), (5, [1, 2])])
    parts = list(micro_batches(rows, tokens, most, whole))
    assert [len(part) for part in parts] == expected
    assert [id(row) for part in parts for row in part] == [id(row) for row in rows]
