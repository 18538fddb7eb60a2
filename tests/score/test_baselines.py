"""The copying baseline: the document's own opening, cut to the budget."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples
from score_brute_force import PIECES, byte_ids, plain_ids
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from squish_pl.budget import Budget
from squish_pl.score.baselines import lead

BUDGETS = ["1%", "10%", "33%", "100%", "1 char", "7 chars", "1% tokens", "10% tokens", "50% tokens", "3 tokens"]
BUDGETS += ["33% bytes", "7 bytes"]

DOCUMENTS = st.lists(st.one_of(st.sampled_from([*PIECES, "</s>", "<s>", "\t", "\u00a0"]), st.text(max_size=4))).map(
    "".join
)


@pytest.fixture(scope="module")
def merging_tokenizer() -> PreTrainedTokenizerFast:
    """A small BPE with merges, to which " ferry" is one token and "ferry" several."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    draw = random.Random(0)
    words = ["the", "ferry", "left", "before", "dawn", "nobody", "quay", "naïve", "東京"]
    texts = [" " + " ".join(draw.choices(words, k=20)) for _ in range(50)]
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def test_by_hand(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    def of(document: str, budget: str) -> str:
        return lead(document, Budget.parse(budget), byte_tokenizer)

    assert of("abcdefghij", "30%") == "abc"
    assert of("abcdefghij", "29%") == "ab"
    assert of("abcdefghij", "4 chars") == "abcd"
    assert of("abcdefghij", "400 chars") == "abcdefghij"
    assert of("ab cdefghi", "30%") == "ab"  # the space at its end is no part of a summary
    assert of("abcdefghij", "9%") == ""
    assert of("\U0001f600\U0001f600ab", "50%") == "\U0001f600\U0001f600"
    assert of("\U0001f600\U0001f600ab", "50% tokens") == "\U0001f600"  # four tokens each, five allowed
    assert of("éab", "3 tokens") == of("éab", "3 bytes") == "éa"
    assert of("\U0001f600\U0001f600ab", "50% bytes") == "\U0001f600"
    assert of("", "10%") == ""
    assert of("", "5 tokens") == ""


@pytest.mark.parametrize("budget", BUDGETS)
def test_within_budget_and_a_beginning(budget: str, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    cap = Budget.parse(budget)

    @given(document=DOCUMENTS)
    @few_examples(60)
    def check(document: str) -> None:
        summary = lead(document, cap, byte_tokenizer)
        assert document.lstrip().startswith(summary)
        assert summary == summary.strip()

        def size(text: str) -> int:
            # a token is a byte
            return len(byte_ids(text)) if cap.unit.counts_tokens or cap.unit.counts_bytes else len(text)

        limit = int(cap.value)
        if cap.unit.is_share:
            length = size(document)
            limit = cap.value.numerator * length // cap.value.denominator

        assert size(summary) <= limit
        rest = document[len(summary) :]
        if document == document.lstrip() and rest.strip():
            # one visible character more, and it is over: nothing of the budget is wasted
            longer = document[: len(document) - len(rest.lstrip()) + 1]
            assert size(longer) > limit

    check()


def test_control_tokens_in_the_document_are_counted_as_text(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    assert lead("</s></s></s>", Budget.parse("3 tokens"), byte_tokenizer) == "</s"
    assert lead("<s>abcdef", Budget.parse("5 tokens"), byte_tokenizer) == "<s>ab"


def check_token_count(document: str, limit: int, tokenizer: PreTrainedTokenizerBase) -> None:
    summary = lead(document, Budget.parse(f"{limit} tokens"), tokenizer)
    assert document.lstrip().startswith(summary)
    assert len(plain_ids(tokenizer)(summary)) <= limit


@given(
    pieces=st.lists(st.sampled_from([" the", " ferry", " left", ".", "naïve", "東京", "x"])), limit=st.integers(1, 9)
)
@few_examples(150)
def test_merged_tokens_of_a_text_that_begins_with_a_word(
    merging_tokenizer: PreTrainedTokenizerFast, pieces: list[str], limit: int
) -> None:
    check_token_count("".join(pieces).strip(), limit, merging_tokenizer)


def test_merged_tokens_of_a_text_that_begins_with_a_space(merging_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = plain_ids(merging_tokenizer)
    assert len(ids(" ferry")) == 1
    assert len(ids("ferry")) > 1
    check_token_count(" ferry left before dawn", 1, merging_tokenizer)
