"""Budgets: what they read, and that their limits are exact."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples
from score_brute_force import FAMILY, byte_ids, random_text
from transformers import PreTrainedTokenizerFast

from squish_pl.budget import Budget, BudgetUnit
from squish_pl.errors import BudgetError, SquishError

READ = [
    ("10%", Fraction(1, 10), BudgetUnit.CHARACTER_SHARE, "10%"),
    ("2.5%", Fraction(1, 40), BudgetUnit.CHARACTER_SHARE, "2.5%"),
    ("0.1%", Fraction(1, 1000), BudgetUnit.CHARACTER_SHARE, "0.1%"),
    ("100%", Fraction(1), BudgetUnit.CHARACTER_SHARE, "100%"),
    ("  10 %  ", Fraction(1, 10), BudgetUnit.CHARACTER_SHARE, "10%"),
    ("10% chars", Fraction(1, 10), BudgetUnit.CHARACTER_SHARE, "10%"),
    ("500 chars", Fraction(500), BudgetUnit.CHARACTERS, "500 chars"),
    ("500CHARS", Fraction(500), BudgetUnit.CHARACTERS, "500 chars"),
    ("500 characters", Fraction(500), BudgetUnit.CHARACTERS, "500 chars"),
    ("1 char", Fraction(1), BudgetUnit.CHARACTERS, "1 char"),
    ("5% tokens", Fraction(1, 20), BudgetUnit.TOKEN_SHARE, "5% tokens"),
    ("5%Tokens", Fraction(1, 20), BudgetUnit.TOKEN_SHARE, "5% tokens"),
    ("12.25 %  TOKENS", Fraction(49, 400), BudgetUnit.TOKEN_SHARE, "12.25% tokens"),
    ("64 tokens", Fraction(64), BudgetUnit.TOKENS, "64 tokens"),
    ("64\ttokens\n", Fraction(64), BudgetUnit.TOKENS, "64 tokens"),
    ("1 token", Fraction(1), BudgetUnit.TOKENS, "1 token"),
    ("64.0 tokens", Fraction(64), BudgetUnit.TOKENS, "64 tokens"),
    ("10% bytes", Fraction(1, 10), BudgetUnit.BYTE_SHARE, "10% bytes"),
    ("0.5%Byte", Fraction(1, 200), BudgetUnit.BYTE_SHARE, "0.5% bytes"),
    ("300 bytes", Fraction(300), BudgetUnit.BYTES, "300 bytes"),
    ("1 byte", Fraction(1), BudgetUnit.BYTES, "1 byte"),
]


@pytest.mark.parametrize(("text", "value", "unit", "shown"), READ)
def test_parse_and_str(text: str, value: Fraction, unit: BudgetUnit, shown: str) -> None:
    budget = Budget.parse(text)
    assert (budget.value, budget.unit) == (value, unit)
    assert str(budget) == shown
    assert Budget.parse(str(budget)) == budget
    assert Budget.parse(budget) is budget


@pytest.mark.parametrize(
    "text",
    [
        *("0%", "", "10", "-5%", "abc", "101%", "1.5 tokens", "0 chars"),
        *("   ", "0.0%", "0 tokens", "0% tokens", "100.001%", "100.1% tokens", "1.5 chars", "-3 tokens", "+3 tokens"),
        *("%", "tokens", "10%%", "10 words", "10% words", "1e2 tokens", "10 20 tokens", "10% 5%", "1,000 chars"),
        *("nan%", "inf tokens", "ten tokens", "5 tokens %", "10.%", ".5%", "10% of tokens", "64 tokens!"),
        *("1.5 bytes", "0 bytes", "0% bytes", "101% bytes", "300 b", "2 kilobytes", "bytes"),
    ],
)
def test_what_is_no_budget_raises(text: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)
    assert isinstance(caught.value, SquishError)
    assert repr(text) in str(caught.value)


def test_values_that_are_no_text_raise() -> None:
    for value in (10, 0.1, None):
        with pytest.raises(BudgetError):
            Budget.parse(value)  # type: ignore[arg-type]


def test_round_trip_of_short_decimals() -> None:
    for thousandths in range(1, 100_001, 7):
        text = f"{thousandths / 1000:g}%"
        assert str(Budget.parse(text)) == text
        assert Budget.parse(str(Budget.parse(text + " tokens"))) == Budget.parse(text + " tokens")


@pytest.mark.parametrize("text", ["12.3456789%", "33.3333333% tokens", "0.00001%"])
def test_round_trip_of_long_decimals(text: str) -> None:
    assert Budget.parse(str(Budget.parse(text))) == Budget.parse(text)


def test_limits_of_character_shares_are_exact() -> None:
    texts = ["x" * length for length in range(401)]
    for percent in range(1, 101):
        budget = Budget.parse(f"{percent}%")
        assert [budget.limit(text) for text in texts] == [percent * length // 100 for length in range(401)]
    assert Budget.parse("29%").limit("x" * 100) == 29  # int(0.29 * 100) is 28


def test_limits_of_decimal_shares_are_exact() -> None:
    for thousandths in (1, 25, 99, 290, 333, 575, 999):
        budget = Budget.parse(f"{thousandths / 10:g}%")
        for length in range(0, 5001, 13):
            assert budget.limit("x" * length) == thousandths * length // 1000


def test_limits_of_token_shares_are_exact(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    draw = random.Random(0)
    for percent in range(1, 101):
        text = random_text(draw, percent // 2)
        assert Budget.parse(f"{percent}% tokens").limit(text, byte_tokenizer) == percent * len(byte_ids(text)) // 100


def test_absolute_limits_do_not_look_at_the_document() -> None:
    for document in ("", "x", "x" * 10_000):
        assert Budget.parse("500 chars").limit(document) == 500
        assert Budget.parse("64 tokens").limit(document) == 64


@pytest.mark.parametrize(
    ("text", "characters"), [("", 0), ("\U0001f600", 1), ("e\u0301", 2), ("é", 1), (FAMILY, 5), ("東京", 2), (" \n", 2)]
)
def test_characters_are_code_points(text: str, characters: int, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    assert Budget.parse("10%").length(text) == characters
    assert Budget.parse("10 chars").length(text, byte_tokenizer) == characters
    assert Budget.parse("100%").limit(text) == characters
    assert Budget.parse("10 tokens").length(text, byte_tokenizer) == len(text.encode())


BYTES = [("", 0), ("a b", 3), ("é", 2), ("東京", 6), ("\U0001f600", 4), ("e\u0301", 3), (FAMILY, 18), ("a\ud83d", 2)]


@pytest.mark.parametrize(("text", "count"), BYTES)
def test_bytes_are_those_of_utf_8(text: str, count: int) -> None:
    assert Budget.parse("10 bytes").length(text) == count  # no tokenizer
    assert Budget.parse("100% bytes").limit(text) == count
    assert Budget.parse("50% bytes").limit(text) == count // 2
    assert Budget.parse("7 bytes").limit(text) == 7


def test_units_tell_what_they_count() -> None:
    counted = {unit: (unit.counts_tokens, unit.counts_bytes, unit.is_share, unit.absolute) for unit in BudgetUnit}
    assert counted == {
        BudgetUnit.CHARACTER_SHARE: (False, False, True, BudgetUnit.CHARACTERS),
        BudgetUnit.CHARACTERS: (False, False, False, BudgetUnit.CHARACTERS),
        BudgetUnit.TOKEN_SHARE: (True, False, True, BudgetUnit.TOKENS),
        BudgetUnit.TOKENS: (True, False, False, BudgetUnit.TOKENS),
        BudgetUnit.BYTE_SHARE: (False, True, True, BudgetUnit.BYTES),
        BudgetUnit.BYTES: (False, True, False, BudgetUnit.BYTES),
    }


CUTS = [
    ("9 bytes", "東京都", 9, "東京都"),
    ("9 bytes", "東京都", 8, "東京"),  # not through a character
    ("9 bytes", "東京都", 2, ""),
    ("9 bytes", "a\u00e9 \U0001f600b", 4, "a\u00e9"),  # a, two bytes, and a space that does not count
    ("9 bytes", "a\u00e9 \U0001f600b", 7, "a\u00e9"),  # three of the sign's four bytes
    ("9 bytes", "a\u00e9 \U0001f600b", 8, "a\u00e9 \U0001f600"),
    ("9 chars", "東京都", 2, "東京"),
    ("9 tokens", "東京都", 7, "東京"),
]


@pytest.mark.parametrize(("budget", "text", "limit", "expected"), CUTS)
def test_cuts(budget: str, text: str, limit: int, expected: str, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    assert Budget.parse(budget).cut(text, limit, byte_tokenizer) == expected


@given(text=st.text(max_size=30), limit=st.integers(0, 60))
@few_examples(200)
def test_a_cut_to_bytes_is_the_longest_beginning_that_fits(text: str, limit: int) -> None:
    cut = Budget.parse("9 bytes").cut(text, limit)
    fitting = [text[:end] for end in range(len(text) + 1) if len(text[:end].encode()) <= limit]
    assert cut == fitting[-1].rstrip()


def test_control_tokens_in_a_text_are_counted_as_text(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    assert byte_tokenizer("</s>", add_special_tokens=False)["input_ids"] == [257]
    assert Budget.parse("5 tokens").length("</s>", byte_tokenizer) == 4
    assert Budget.parse("50% tokens").limit("<s></s>", byte_tokenizer) == 3


@given(document=st.text(max_size=60), extra=st.text(max_size=3), percent=st.integers(1, 100))
@few_examples(100)
def test_allows_exactly_up_to_the_limit(document: str, extra: str, percent: int) -> None:
    budget = Budget.parse(f"{percent}%")
    limit = percent * len(document) // 100
    assert budget.allows(document[:limit], document)
    assert not budget.allows(document[:limit] + "x", document)
    assert budget.allows(document[:limit] + extra, document) == (not extra)


def test_token_budgets_need_a_tokenizer() -> None:
    with pytest.raises(BudgetError, match="tokenizer"):
        Budget.parse("5% tokens").limit("text")
    with pytest.raises(BudgetError, match="tokenizer"):
        Budget.parse("5 tokens").allows("text", "document")


def test_describe() -> None:
    assert Budget.parse("10%").describe(412) == "412 characters"
    assert Budget.parse("10%").describe(1) == "1 character"
    assert Budget.parse("64 tokens").describe(64) == "64 tokens"
    assert Budget.parse("5% tokens").describe(1) == "1 token"
    assert Budget.parse("10% bytes").describe(300) == "300 bytes"
    assert Budget.parse("1 byte").describe(1) == "1 byte"
