from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, models
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from squish_pl.data.filters import cut_document
from squish_pl.lm.cutting import cut_to_sentences, cut_to_tokens, split_sentences
from squish_pl.lm.tokens import count_tokens
from squish_pl.types import Document

FAMILY = "\U0001f469‍\U0001f469‍\U0001f467"  # one glyph of five characters, two of them joiners
TEXTS = [
    "the ferry left before dawn, and nobody on the quay saw who steered it",
    "fog  and\n\n  fog;\ttheferryleftbeforedawn 1234567 it's quay",
    f"café e\u0301e\u0301e\u0301 {FAMILY} \U0001f600\U0001f600 naïve \u6771\u4eac\u90fd",
    "   \n the ferry   ",
]


def longest_prefix(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> str:
    """The definition, by trying every prefix."""
    if count_tokens(tokenizer, text) <= max_tokens:
        return text
    prefixes = [text[:end] for end in range(len(text) + 1)]
    whole = [prefix for prefix in prefixes if prefix == prefix.rstrip()]
    return max((prefix for prefix in whole if count_tokens(tokenizer, prefix) <= max_tokens), key=len)


@pytest.mark.parametrize("text", TEXTS)
def test_cut_is_the_longest_prefix_that_fits_in_bytes(text: str, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    for max_tokens in range(1, len(text.encode()) + 2):
        assert cut_to_tokens(text, byte_tokenizer, max_tokens) == longest_prefix(text, byte_tokenizer, max_tokens)


@pytest.mark.parametrize("text", TEXTS)
def test_cut_is_the_longest_prefix_that_fits_in_bpe(text: str, bpe_tokenizer: PreTrainedTokenizerFast) -> None:
    for max_tokens in range(1, count_tokens(bpe_tokenizer, text) + 2):
        assert cut_to_tokens(text, bpe_tokenizer, max_tokens) == longest_prefix(text, bpe_tokenizer, max_tokens)


def test_cut_of_random_texts(bpe_tokenizer: PreTrainedTokenizerFast) -> None:
    draw = random.Random(0)
    for _ in range(40):
        text = "".join(draw.choices("thefryqua   \n.1'é\U0001f600", k=60))
        max_tokens = draw.randint(1, 30)
        assert cut_to_tokens(text, bpe_tokenizer, max_tokens) == longest_prefix(text, bpe_tokenizer, max_tokens)


@pytest.mark.parametrize("text", TEXTS)
def test_cut_with_a_slow_tokenizer(text: str) -> None:
    tokenizer = ByT5Tokenizer(extra_ids=0)
    assert not tokenizer.is_fast
    for max_tokens in range(1, len(text.encode()) + 2, 5):
        assert cut_to_tokens(text, tokenizer, max_tokens) == longest_prefix(text, tokenizer, max_tokens)


def test_cut_by_hand(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    # One token a byte; an emoji has four, the e with a combining accent one and two.
    assert cut_to_tokens("ab cd", byte_tokenizer, 5) == "ab cd"
    assert cut_to_tokens("ab cd", byte_tokenizer, 4) == "ab c"
    assert cut_to_tokens("ab cd", byte_tokenizer, 3) == "ab"  # no whitespace at the end
    assert cut_to_tokens("a\U0001f600b", byte_tokenizer, 4) == "a"
    assert cut_to_tokens("a\U0001f600b", byte_tokenizer, 5) == "a\U0001f600"
    assert cut_to_tokens("ae\u0301", byte_tokenizer, 3) == "ae"
    assert cut_to_tokens("\U0001f600b", byte_tokenizer, 3) == ""
    assert cut_to_tokens("", byte_tokenizer, 3) == ""


def test_text_that_fits_keeps_its_whitespace(bpe_tokenizer: PreTrainedTokenizerFast) -> None:
    text = " the ferry \n\n"
    assert cut_to_tokens(text, bpe_tokenizer, count_tokens(bpe_tokenizer, text)) is text


@pytest.mark.parametrize("characters_per_token", [1, 8])
def test_long_text_is_cut_as_if_it_were_tokenised_whole(
    characters_per_token: int, bpe_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With 1, the part tokenised at first is too short and has to grow.
    monkeypatch.setattr("squish_pl.lm.cutting._CHARACTERS_PER_TOKEN", characters_per_token)
    text = " the ferry left before dawn" * 400
    expected = longest_prefix(text[:1000], bpe_tokenizer, 50)
    assert 50 < len(expected) < 900
    assert cut_to_tokens(text, bpe_tokenizer, 50) == expected


def test_control_tokens_in_a_text_are_ordinary_text(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    own = Tokenizer.from_str(byte_tokenizer.backend_tokenizer.to_str())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<|end|>")
    assert len(tokenizer("<|end|>").input_ids) == 1
    assert cut_to_tokens("ab<|end|>c", tokenizer, 4) == "ab<|"  # ten bytes, not four tokens


def test_a_longer_prefix_may_have_fewer_tokens() -> None:
    # The first merge, e + f, keeps the others from happening: "abcdef" is a b c d ef, but "abcde" is one token.
    merges = [("e", "f"), ("d", "e"), ("c", "de"), ("b", "cde"), ("a", "bcde")]
    symbols = [*"abcdef", *("".join(pair) for pair in merges)]
    model = models.BPE(vocab={symbol: number for number, symbol in enumerate(symbols)}, merges=merges)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model))
    assert [count_tokens(tokenizer, "abcdef"[:end]) for end in range(1, 7)] == [1, 2, 3, 4, 1, 5]
    assert cut_to_tokens("abcdef", tokenizer, 1) == "abcde"


def test_cut_document_keeps_all_but_the_text(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    document = Document("abcdef", id="1", url="u", name="n", highlights="a longer summary")
    cut = Document("ab", id="1", url="u", name="n", highlights="a longer summary")
    assert cut_document(document, byte_tokenizer, 2) == cut
    assert cut_document(document, None, None) is document


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("One. Two! Three? Four.", ["One. Two! Three? Four.", "One. Two! Three?", "One. Two!", "One.", ""]),
        ("No full stop\nat a line's end", ["No full stop\nat a line's end", "No full stop", ""]),
        ('She said "no." Then she left', ['She said "no." Then she left', 'She said "no."', ""]),
        (
            "Dr. A. Lee paid 3.5 crowns at 5 p.m. and left. So did Mrs. Ray.",
            [
                "Dr. A. Lee paid 3.5 crowns at 5 p.m. and left. So did Mrs. Ray.",
                "Dr. A. Lee paid 3.5 crowns at 5 p.m. and left.",
                "",
            ],
        ),
        (
            "雨が降った。彼は帰った！終わり",
            ["雨が降った。彼は帰った！終わり", "雨が降った。彼は帰った！", "雨が降った。", ""],
        ),
        ("", [""]),
    ],
)
def test_every_cut_at_a_sentence_is_the_longest_that_fits(text: str, cuts: list[str]) -> None:
    ends = [len(cut) for cut in cuts]
    for most in range(len(text) + 1):
        expected = next(cut for cut, end in zip(cuts, ends, strict=True) if end <= most)
        assert cut_to_sentences(text, lambda beginning, most=most: len(beginning) <= most) == expected


def test_sentences_by_hand() -> None:
    text = " Mr. Marsh left at 3.5 p.m. today. Nobody saw it! A list\n\n- one\n“Why?” she said. “No.” He left "
    assert split_sentences(text) == [
        "Mr. Marsh left at 3.5 p.m. today.",
        "Nobody saw it!",
        "A list",
        "- one",
        "“Why?”",
        "she said.",
        "“No.”",
        "He left",
    ]
    assert split_sentences(" \n ") == []
