"""How rows are put into batches: little padding, each row once, no batch too large; and what is measured of them."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples
from score_brute_force import BEGIN, byte_ids, slow_information
from tiny import make_tiny_model

from squish_pl.errors import DataError
from squish_pl.score.information import Row, batches_by_length, token_information
from squish_pl.score.reference import FrozenModel

DOCUMENT = "the ferry left before dawn, and nobody on the quay saw who steered it"  # 69 tokens
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


def test_a_long_row_runs_alone_whatever_the_limit() -> None:
    plain = FrozenModel(make_tiny_model("qwen3", torch.float64))
    rows = [Row((BEGIN,), tuple(byte_ids(DOCUMENT[:n]))) for n in (1, 40, 69, 3)]
    narrow, wide = (token_information(plain, rows, batch_tokens) for batch_tokens in (1, 10_000))
    assert [len(row) for row in narrow] == [1, 40, 69, 3]
    for a, b in zip(narrow, wide, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_each_row_is_measured_behind_its_own_prefix_and_in_order() -> None:
    model = make_tiny_model("llama", torch.float64)
    rows = [Row((BEGIN, *byte_ids(prefix)), tuple(byte_ids(text))) for prefix, text in (("a", "bc"), ("", DOCUMENT))]
    for actual, row in zip(token_information(FrozenModel(model), rows, 64), rows, strict=True):
        torch.testing.assert_close(actual, slow_information(model, row.prefix, row.targets), rtol=1e-9, atol=0)
    assert [len(row) for row in rows] == [3, 69]  # the last target is not read
    assert token_information(FrozenModel(model), [], 64) == []


def test_a_row_longer_than_the_context_is_an_error() -> None:
    reference = FrozenModel(make_tiny_model(context=69))
    fits, too_long = Row((BEGIN,), tuple(byte_ids(DOCUMENT))), Row((BEGIN, 1), tuple(byte_ids(DOCUMENT)))
    assert len(token_information(reference, [fits], 1)[0]) == 69
    with pytest.raises(DataError, match="takes 70 tokens, but the reference reads at most 69"):
        token_information(reference, [fits, too_long], 1)
