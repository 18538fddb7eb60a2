"""A tokenizer that merges."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

WORDS = ["the", "ferry", "left", "before", "dawn", "and", "nobody", "on", "quay", "saw", "who", "steered", "it"]


@pytest.fixture(scope="session", params=["words", "whole"])
def bpe_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """A small byte-level BPE, which splits a text into words first, or not at all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=request.param == "words")
    tokenizer.decoder = decoders.ByteLevel()
    texts = [f"text {number}: {' '.join(random.Random(number).choices(WORDS, k=20))}." for number in range(50)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts + ["naïve café \U0001f469‍\U0001f4bb e\u0301 \U0001f600"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
