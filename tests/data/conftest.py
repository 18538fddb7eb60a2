"""Documents and tokenizers of the data tests, all made here."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

WORDS = ["the", "ferry", "left", "before", "dawn", "and", "nobody", "on", "quay", "saw", "who", "steered", "it"]


def make_texts(count: int) -> list[str]:
    """Different short texts, `text 0: ...` and so on, 50 to 150 characters each."""
    texts = []
    for number in range(count):
        words = random.Random(number).choices(WORDS, k=20)
        texts.append(f"text {number}: {' '.join(words)}."[: 50 + number % 100])
    return texts


def as_json_lines(texts: list[str]) -> str:
    return "".join(
        json.dumps({"text": text, "timestamp": "2025-01-02T03:04:05Z", "url": f"https://a.test/{number}"}) + "\n"
        for number, text in enumerate(texts)
    )


@pytest.fixture(autouse=True)
def _on_our_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps `datasets` from counting loads over the network and from writing into the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def corpus(write: Callable[[str, list[str]], Path], tmp_path: Path) -> tuple[str, list[str]]:
    """A folder of three JSON lines files, and the 25 texts in them, in order."""
    texts = make_texts(25)
    write("corpus/a.jsonl", texts[:10])
    write("corpus/b.json.gz", texts[10:12])
    write("corpus/c.jsonl", texts[12:])
    return str(tmp_path / "corpus"), texts


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, list[str]], Path]:
    """Writes texts into a JSON lines file under the temporary folder; gzipped if its name ends in .gz."""

    def write_file(name: str, texts: list[str]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = as_json_lines(texts).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_file


def _fast(model: models.BPE, pre_tokenizer: pre_tokenizers.PreTokenizer | None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each UTF-8 byte."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    model = models.BPE(vocab=vocabulary, merges=[])
    return PreTrainedTokenizerFast(
        tokenizer_object=_fast(model, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    )


@pytest.fixture(scope="session", params=["words", "whole"])
def bpe_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """A small byte-level BPE, which splits a text into words first, or not at all."""
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=request.param == "words")
    tokenizer = _fast(models.BPE(), pre_tokenizer)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(make_texts(50) + ["naïve café \U0001f469‍\U0001f4bb e\u0301 \U0001f600"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
