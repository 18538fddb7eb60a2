"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["OMP_NUM_THREADS"] = "1"  # tiny models run best on one thread; processes started by tests follow

import pytest
import torch
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model, save_tiny_model
from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    return make_byte_tokenizer()


@pytest.fixture(scope="session")
def chat_tokenizer() -> PreTrainedTokenizerFast:
    return make_byte_tokenizer(chat=True)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen3 with its tokenizer, saved as a Hugging Face folder."""
    return save_tiny_model("qwen3", tmp_path_factory.mktemp("tiny-qwen3"))


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with its tokenizer, saved as a Hugging Face folder."""
    return save_tiny_model("llama", tmp_path_factory.mktemp("tiny-llama"))


__all__ = ["ARCHITECTURES", "make_byte_tokenizer", "make_tiny_model"]
