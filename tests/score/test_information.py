"""How rows are put into batches: little padding, each row once, no batch too large."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples

from squish_pl.score.information import batches_by_length

LENGTHS = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 5000)), max_size=80)


def padding(lengths: list[int], batch: list[int]) -> float:
    """Padded share of a batch."""
    return 1 - sum(lengths[i] for i in batch) / (len(batch) * max(lengths[i] for i in batch))


@given(lengths=LENGTHS, batch_tokens=st.sampled_from([1, 64, 1024, 8192, 10**9]))
@few_examples(300)
def test_laws(lengths: list[int], batch_tokens: int) -> None:
    batches = list(batches_by_length(lengths, batch_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
        assert padding(lengths, batch) < 0.05


def test_a_usual_mixture_still_fills_its_batches() -> None:
    """32 documents of 300 to 4096 tokens, 16 summaries of 1 to 20 % each."""
    draw = random.Random(0)
    lengths = []
    for _ in range(32):
        document = draw.randint(300, 4096)
        lengths += [document, *(document + 16 + round(document * draw.uniform(0.01, 0.2)) for _ in range(16))]
    batches = list(batches_by_length(lengths, 8192))
    least = sum(lengths) / 8192
    assert len(batches) < 1.4 * least
    assert sum(len(batch) * lengths[batch[0]] for batch in batches) < 1.02 * sum(lengths)


def test_by_hand() -> None:
    assert list(batches_by_length([100, 95, 50], 1000)) == [[0, 1], [2]]  # 2.5 % of padding
    assert list(batches_by_length([100, 90], 1000)) == [[0], [1]]  # 5 %
    assert list(batches_by_length([90, 100, 100, 91], 1000)) == [[1, 2, 3, 0]]  # 90 fits in behind longer ones
    assert list(batches_by_length([100] * 5, 299)) == [[0, 1], [2, 3], [4]]
    assert list(batches_by_length([], 1000)) == []
