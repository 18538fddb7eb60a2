"""The scorer against an independent slow computation in float64."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from score_brute_force import (
    END,
    Slow,
    byte_ids,
    random_summaries,
    random_text,
    slow_copied,
    slow_information,
    slow_squish,
)
from tiny import make_byte_tokenizer, make_tiny_model
from transformers import PreTrainedModel

from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document, Scores

RTOL = 1e-9


@cache
def model_of(architecture: str) -> PreTrainedModel:
    return make_tiny_model(architecture, torch.float64, seed=1)


@cache
def texts() -> list[tuple[str, list[str]]]:
    """Four documents, 4 to 30 pieces long, with 3 to 7 summaries each."""
    draw = random.Random(0)
    documents = [random_text(draw, pieces) for pieces in (14, 4, 30, 20)]
    return [(d, random_summaries(draw, d, count)) for d, count in zip(documents, (6, 3, 7, 4), strict=True)]


@cache
def slow_scores(architecture: str) -> list[list[Slow]]:
    model = model_of(architecture)
    return [[slow_squish(model, document, summary) for summary in summaries] for document, summaries in texts()]


def scorer_of(architecture: str, **settings: int) -> SquishScorer:
    return SquishScorer(FrozenModel(model_of(architecture)), make_byte_tokenizer(), **settings)


def assert_equals_slow(scores: Scores, expected: list[Slow], n: int, document: str, summaries: list[str]) -> None:
    assert scores.information == pytest.approx(expected[0].information, rel=RTOL, abs=0)
    novel = []
    for slow, summary in zip(expected, summaries, strict=True):
        copied = slow_copied(byte_ids(document), byte_ids(summary.strip()), n)
        novel.append(Slow(slow.information, slow.token_saved, copied).novel_score)
    for actual, wanted in (
        (scores.score, [slow.score for slow in expected]),
        (scores.saved, [slow.saved for slow in expected]),
        (scores.novel_score, novel),
    ):
        torch.testing.assert_close(actual, torch.tensor(wanted, dtype=torch.float64), rtol=RTOL, atol=0)
    wanted_tokens = torch.stack([slow.token_saved for slow in expected]).float()
    torch.testing.assert_close(scores.token_saved, wanted_tokens, rtol=2.5e-7, atol=1e-11)  # rounded to float32
    assert scores.within_budget.all()


@pytest.mark.parametrize("batch_tokens", [1, 64, 700, 8192])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_scores_equal_slow_computation(architecture: str, batch_tokens: int) -> None:
    scorer = scorer_of(architecture, batch_tokens=batch_tokens)
    results = scorer.score_batch([ScoreRequest(document, summaries) for document, summaries in texts()])
    for (document, summaries), scores, expected in zip(texts(), results, slow_scores(architecture), strict=True):
        assert_equals_slow(scores, expected, 4, document, summaries)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_novel_score_equals_slow_computation(n: int) -> None:
    results = scorer_of("llama", novel_ngram=n).score_batch([ScoreRequest(Document(d), s) for d, s in texts()])
    for (document, summaries), scores, expected in zip(texts(), results, slow_scores("llama"), strict=True):
        assert_equals_slow(scores, expected, n, document, summaries)


def test_the_cases_mean_something() -> None:
    """The slow scores are far apart and of both signs, and every n marks other tokens: nothing above is trivial."""
    scores = [slow.score for row in slow_scores("llama") for slow in row]
    assert min(scores) < -1e-3
    assert max(scores) > 1e-3
    document, summaries = texts()[2]
    marks = [[slow_copied(byte_ids(document), byte_ids(s.strip()), n) for s in summaries] for n in range(1, 6)]
    assert len({str(mark) for mark in marks}) == 5
    assert all(True in row and False in row for row in marks[3][1:3])


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_information_of_texts_alone_per_token(architecture: str) -> None:
    documents = [document for document, _ in texts()]
    for actual, document in zip(scorer_of(architecture).information(documents), documents, strict=True):
        expected = slow_information(model_of(architecture), [256], byte_ids(document))
        torch.testing.assert_close(actual, expected, rtol=RTOL, atol=0)


def test_another_template_and_start_token() -> None:
    frame = "<<{summary}>>"
    template = ScoreTemplate(frame=frame, start_token="</s>")
    scorer = SquishScorer(FrozenModel(model_of("qwen3")), make_byte_tokenizer(), template)
    document, summaries = texts()[1]
    expected = [slow_squish(model_of("qwen3"), document, s, start=END, frame=frame) for s in summaries]
    assert_equals_slow(scorer.score(document, summaries), expected, 4, document, summaries)
    usual = slow_scores("qwen3")[1][0]
    assert abs(expected[0].information - usual.information) > 1e-3
    assert abs(expected[0].saved - usual.saved) > 1e-3


def test_a_summary_that_spells_the_field_is_left_as_it_is() -> None:
    document, summary = texts()[1][0], "a {summary} of {summary}"
    expected = [slow_squish(model_of("llama"), document, summary)]
    assert_equals_slow(scorer_of("llama").score(document, [summary]), expected, 4, document, [summary])


def test_float32_scores_are_near_those_in_float64() -> None:
    scorer = SquishScorer(FrozenModel(make_tiny_model("llama", torch.float32, seed=1)), make_byte_tokenizer())
    results = scorer.score_batch([ScoreRequest(document, summaries) for document, summaries in texts()])
    for scores, expected in zip(results, slow_scores("llama"), strict=True):
        assert scores.information == pytest.approx(expected[0].information, rel=2e-6, abs=0)
        wanted = torch.tensor([slow.score for slow in expected], dtype=torch.float64)
        torch.testing.assert_close(scores.score, wanted, rtol=0, atol=2e-6)
        assert scores.score.dtype == scores.saved.dtype == scores.novel_score.dtype == torch.float64


def test_budgets_differ_within_one_batch() -> None:
    document, summaries = texts()[0]
    requests = [ScoreRequest(document, summaries, budget) for budget in (None, "10 chars", "100%", "20 tokens")]
    results = scorer_of("llama").score_batch(requests)
    lengths = [len(s.strip()) for s in summaries]
    tokens = [len(s.strip().encode()) for s in summaries]
    fits = [[True] * 6, [n <= 10 for n in lengths], [n <= len(document) for n in lengths], [n <= 20 for n in tokens]]
    assert len({tuple(row) for row in fits}) >= 3
    for scores, row in zip(results, fits, strict=True):
        wanted = [slow.score if ok else 0.0 for slow, ok in zip(slow_scores("llama")[0], row, strict=True)]
        assert scores.within_budget.tolist() == row
        torch.testing.assert_close(scores.score, torch.tensor(wanted, dtype=torch.float64), rtol=RTOL, atol=0)
