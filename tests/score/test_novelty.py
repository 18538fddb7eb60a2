"""Which document tokens count as copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples
from score_brute_force import slow_copied

from squish_pl.score.novelty import copied_tokens


def marks(document: str, summary: str, n: int) -> str:
    """Copied letters as x, the others as a dot."""
    copied = copied_tokens([ord(c) for c in document], [ord(c) for c in summary], n)
    return "".join("x" if c else "." for c in copied.tolist())


@pytest.mark.parametrize(
    ("document", "summary", "n", "expected"),
    [
        ("abcdefgh", "cdef", 4, "..xxxx.."),
        ("abcdefgh", "cde", 4, "........"),  # a summary shorter than n shares nothing
        ("abc", "abc", 4, "..."),  # nor does such a document
        ("abcd", "abcd", 4, "xxxx"),
        ("abcdefgh", "abcdXefgh", 4, "xxxxxxxx"),
        ("abcdefgh", "abcXdefg", 4, "...xxxx."),
        ("abcdefgh", "bcdefY", 4, ".xxxxx.."),  # overlapping n-grams join
        ("ababab", "bab", 3, ".xxxxx"),
        ("aaaa", "aa", 2, "xxxx"),
        ("abcabc", "ca", 2, "..xx.."),
        ("abcab", "b", 1, ".x..x"),
        ("abc", "cba", 1, "xxx"),
        ("abc", "cba", 2, "..."),
        ("", "abcd", 1, ""),
        ("abcd", "", 1, "...."),
    ],
)
def test_by_hand(document: str, summary: str, n: int, expected: str) -> None:
    assert marks(document, summary, n) == expected


@given(
    document=st.lists(st.integers(0, 3), max_size=25),
    summary=st.lists(st.integers(0, 3), max_size=25),
    n=st.integers(1, 6),
)
@few_examples(300)
def test_equals_the_definition(document: list[int], summary: list[int], n: int) -> None:
    assert copied_tokens(document, summary, n).tolist() == slow_copied(document, summary, n)


def test_four_by_default() -> None:
    assert copied_tokens([1, 2, 3, 9], [1, 2, 3]).tolist() == [False] * 4
    assert copied_tokens([1, 2, 3, 9], [1, 2, 3, 9]).tolist() == [True] * 4


@pytest.mark.parametrize("n", [0, -1])
def test_n_below_one_raises(n: int) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        copied_tokens([1, 2], [1, 2], n)
