"""Text to token ids: what control tokens, halves of characters and missing tokens come to."""

from __future__ import annotations

import pytest
from score_brute_force import BEGIN, END, byte_ids
from tiny import make_byte_tokenizer
from transformers import PreTrainedTokenizerFast

from squish_pl.errors import ModelError
from squish_pl.lm.tokens import (
    count_tokens,
    encode,
    encode_markup,
    encode_with_offsets,
    start_token_id,
    tokenizer_hash,
    whole_characters,
)


def test_texts_from_outside_hold_no_control_tokens(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    assert encode(byte_tokenizer, "a</s>é") == byte_ids("a</s>é")
    assert encode_with_offsets(byte_tokenizer, "a</s>é").input_ids == byte_ids("a</s>é")
    assert encode_markup(byte_tokenizer, "<s>a</s>") == [BEGIN, *byte_ids("a"), END]
    assert count_tokens(byte_tokenizer, "a</s>é") == 7
    assert encode(byte_tokenizer, "") == encode_markup(byte_tokenizer, "") == []


def test_half_a_character_becomes_a_question_mark(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    assert whole_characters("a\ud83d b") == "a? b"
    assert whole_characters("a\U0001f600") == "a\U0001f600"
    assert encode(byte_tokenizer, "a\ud83d") == byte_ids("a?")


def test_tokenizers_are_told_apart() -> None:
    one, same, other = make_byte_tokenizer(), make_byte_tokenizer(chat=True), make_byte_tokenizer()
    other.add_tokens(["ferry"])
    assert tokenizer_hash(one) == tokenizer_hash(same) != tokenizer_hash(other)
    before = tokenizer_hash(one)
    one.add_tokens(["ferry"])
    assert before != tokenizer_hash(one) == tokenizer_hash(other)


def test_the_start_token() -> None:
    tokenizer = make_byte_tokenizer()
    assert start_token_id(tokenizer) == BEGIN
    assert start_token_id(tokenizer, "</s>") == END
    with pytest.raises(ModelError, match="<nowhere>"):
        start_token_id(tokenizer, "<nowhere>")
    tokenizer.bos_token = None
    assert start_token_id(tokenizer) == END
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="start_token"):
        start_token_id(tokenizer)
