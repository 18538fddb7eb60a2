"""Text to token ids, the one way the whole project does it."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from transformers import BatchEncoding, PreTrainedTokenizerBase

from squish_pl.errors import ModelError
from squish_pl.lm.control_tokens import control_ids, encode_in_parts, without_control_tokens


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text from outside: none is added, and none that the text holds is a control token.

    A document or summary that spells out a control token ("<|im_end|>", "</think>") must not become one; see
    `control_tokens` for what is one. Every other text has the ids that the tokenizer gives it.
    """
    if not text:
        return []
    text = whole_characters(text)
    ids = list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)
    if control_ids(tokenizer).isdisjoint(ids):
        return ids
    if tokenizer.is_fast:
        return list(without_control_tokens(tokenizer).encode(text, add_special_tokens=False).ids)
    return encode_in_parts(tokenizer, text)


def encode_with_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> BatchEncoding:
    """The same ids with the characters each stands for (`offset_mapping`); of a fast tokenizer alone."""
    text = whole_characters(text)
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    if control_ids(tokenizer).isdisjoint(encoded.input_ids):
        return encoded
    spelled = without_control_tokens(tokenizer).encode(text, add_special_tokens=False)
    return BatchEncoding({"input_ids": spelled.ids, "offset_mapping": spelled.offsets}, encoding=spelled)


def whole_characters(text: str) -> str:
    """The text with a question mark for every half of a surrogate pair: JSON can carry one, but it is no character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def encode_markup(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of our own markup (a chat template's output): control tokens in it are recognised."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids) if text else []


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Number of tokens of a text, without special ones."""
    return len(encode(tokenizer, text))


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A short hash that tells tokenizers apart: vocabulary, merges, and how texts are cut up before."""
    return _tokenizer_hash(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _tokenizer_hash(tokenizer: PreTrainedTokenizerBase, size: int) -> str:
    # a vocabulary only ever grows: with its size it is the same one
    backend = getattr(tokenizer, "backend_tokenizer", None)
    told = json.dumps(sorted(tokenizer.get_vocab().items())) if backend is None else str(backend.to_str())
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def line_end_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids of the tokens that end a line: those that begin with a line break, and the control tokens."""
    return _line_end_ids(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _line_end_ids(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[int, ...]:
    ids = range(size)
    breaks = (
        id for id, text in zip(ids, tokenizer.batch_decode([[id] for id in ids]), strict=True) if text[:1] == "\n"
    )
    return tuple(sorted({*breaks, *control_ids(tokenizer)}))


def start_token_id(tokenizer: PreTrainedTokenizerBase, start_token: str | None = None) -> int:
    """The token that a document is conditioned on when nothing else stands before it.

    Args:
        tokenizer: The model's tokenizer.
        start_token: A token's text. By default the tokenizer's beginning-of-sequence token, or, where a model has
            none (Qwen), its end-of-text token, which separates documents in pre-training.

    Raises:
        ModelError: There is no such token.
    """
    if start_token is None:
        for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            if token_id is not None:
                return int(token_id)
        raise ModelError("the tokenizer has no beginning or end token; name one with the template's start_token")
    token_id = tokenizer.get_vocab().get(start_token)
    if token_id is None:
        raise ModelError(f"the start token {start_token!r} is not in the tokenizer's vocabulary")
    return int(token_id)
