"""Laws of the score, on texts that nobody would write."""

from __future__ import annotations

import random
from functools import cache

import torch
from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples
from score_brute_force import FAMILY, PIECES, byte_ids, slow_squish
from tiny import make_byte_tokenizer, make_tiny_model
from transformers import PreTrainedModel

from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.types import Scores

ODD = ["</s>", "<s>", "<", "{summary}", "\u0301", "\x00", "\u200b", "\u00a0", "\ufeff", "\u202e", "\r\n", FAMILY]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES + ODD), st.text(max_size=4)), max_size=8).map("".join)
SUMMARIES = st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=5)
BUDGETS = st.sampled_from([None, "1%", "40%", "100%", "8 chars", "1 token", "50% tokens", "12 tokens"])
REQUESTS = st.builds(ScoreRequest, TEXTS, SUMMARIES, BUDGETS)


@cache
def model() -> PreTrainedModel:
    return make_tiny_model("llama", torch.float64, seed=2)


def fresh_scorer(batch_tokens: int = 8192) -> SquishScorer:
    return SquishScorer(FrozenModel(model()), make_byte_tokenizer(), novel_ngram=2, batch_tokens=batch_tokens)


def assert_same(actual: Scores, expected: Scores, order: list[int] | None = None) -> None:
    """Equal up to float64 rounding; `order` says which of the expected summaries stand in the actual one's places."""
    places = list(range(len(expected.score))) if order is None else order
    assert abs(actual.information - expected.information) <= 1e-9 * expected.information
    assert torch.equal(actual.within_budget, expected.within_budget[places])
    for name, atol in (("score", 1e-12), ("novel_score", 1e-12), ("saved", 1e-10)):
        torch.testing.assert_close(
            getattr(actual, name), getattr(expected, name)[places], rtol=1e-9, atol=atol, equal_nan=True
        )
    torch.testing.assert_close(actual.token_saved, expected.token_saved[places], rtol=3e-7, atol=1e-9, equal_nan=True)


@given(document=TEXTS.filter(bool), summary=TEXTS.filter(str.strip))
@few_examples(200)
def test_equals_slow_computation(document: str, summary: str) -> None:
    scores = fresh_scorer().score(document, [summary])
    slow = slow_squish(model(), document, summary, n=2)
    assert abs(scores.information - slow.information) <= 1e-9 * slow.information
    assert abs(float(scores.score) - slow.score) <= 1e-9 * abs(slow.score) + 1e-13
    assert abs(float(scores.novel_score) - slow.novel_score) <= 1e-9 * abs(slow.novel_score) + 1e-13
    torch.testing.assert_close(scores.token_saved[0], slow.token_saved.float(), rtol=3e-7, atol=1e-9)


@given(request=REQUESTS)
@few_examples(150)
def test_at_most_one_finite_and_zero_where_nothing_is_said(request: ScoreRequest) -> None:
    scores = fresh_scorer().score_batch([request])[0]
    assert (scores.score <= 1).all()
    assert scores.score.isfinite().all()
    assert scores.novel_score.isfinite().all()
    assert scores.information >= 0
    assert scores.token_saved.shape == (len(request.summaries), len(byte_ids(str(request.document))))
    for i, summary in enumerate(request.summaries):
        if not (summary or "").strip():
            assert scores.score[i] == scores.novel_score[i] == scores.saved[i] == 0
        if not scores.within_budget[i]:
            assert scores.score[i] == scores.novel_score[i] == 0


@given(request=REQUESTS, seed=st.integers(0, 99))
@few_examples(100)
def test_permuting_summaries_permutes_everything(request: ScoreRequest, seed: int) -> None:
    order = random.Random(seed).sample(range(len(request.summaries)), len(request.summaries))
    shuffled = ScoreRequest(request.document, [request.summaries[i] for i in order], request.budget)
    expected = fresh_scorer().score_batch([request])[0]
    assert_same(fresh_scorer().score_batch([shuffled])[0], expected, order)


@given(requests=st.lists(REQUESTS, min_size=2, max_size=3), batch_tokens=st.sampled_from([1, 64, 300, 8192]))
@few_examples(100)
def test_neighbours_never_change_a_score(requests: list[ScoreRequest], batch_tokens: int) -> None:
    together = fresh_scorer(batch_tokens).score_batch(requests)
    for scores, request in zip(together, requests, strict=True):
        for i, summary in enumerate(request.summaries):
            alone = fresh_scorer().score(request.document, [summary], request.budget)
            assert_same(alone, scores, [i])


@given(request=REQUESTS, times=st.integers(2, 3))
@few_examples(100)
def test_duplicates_are_equal(request: ScoreRequest, times: int) -> None:
    repeated = ScoreRequest(request.document, list(request.summaries) * times, request.budget)
    scorer = fresh_scorer()
    first, again = scorer.score_batch([repeated, request])
    count = len(request.summaries)
    for values in (first.score, first.novel_score, first.saved, first.token_saved):
        for copy in values.split(count):
            assert torch.equal(copy.nan_to_num(7.0), values[:count].nan_to_num(7.0))
    assert torch.equal(again.score, first.score[:count])


@given(document=TEXTS, summary=TEXTS, left=st.text(" \n\t\r\u00a0\u2003", max_size=4), budget=BUDGETS)
@few_examples(100)
def test_white_space_around_a_summary_is_nothing(document: str, summary: str, left: str, budget: str | None) -> None:
    scorer = fresh_scorer()
    bare, wrapped = scorer.score(document, [summary.strip(), left + summary + left], budget).score.tolist()
    assert bare == wrapped


@given(sign=st.sampled_from("ax\n<é"), summary=TEXTS.filter(str.strip))
@few_examples(60)
def test_documents_of_one_character(sign: str, summary: str) -> None:
    scores = fresh_scorer().score(sign, [summary])
    slow = slow_squish(model(), sign, summary, n=2)
    assert scores.token_saved.shape == (1, len(sign.encode()))
    assert abs(float(scores.score) - slow.score) <= 1e-9 * abs(slow.score) + 1e-13


@given(summaries=SUMMARIES, budget=BUDGETS)
@few_examples(60)
def test_documents_without_tokens(summaries: list[str | None], budget: str | None) -> None:
    scores = fresh_scorer().score("", summaries, budget)
    zeros = [0.0] * len(summaries)
    assert scores.score.tolist() == scores.novel_score.tolist() == scores.saved.tolist() == zeros
    assert scores.information == 0
