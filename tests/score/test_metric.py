"""SquishMetric: a mean over documents, wherever they were scored."""

from __future__ import annotations

import math
import random
from functools import cache

import pytest
import torch
from evidence_tools import slow_support
from score_brute_force import random_summaries, random_text, slow_squish
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.errors import BudgetError, SquishError
from squish_pl.score.bootstrap import bootstrap_interval, estimate
from squish_pl.score.measures.copies import Novel
from squish_pl.score.measures.savings import Squish
from squish_pl.score.measures.support import Support
from squish_pl.score.measures.weighted import Weighted
from squish_pl.score.metric import SquishMetric, squish
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.types import Document


@cache
def scorer() -> SquishScorer:
    return SquishScorer(FrozenModel(make_tiny_model("qwen3", torch.float64)), make_byte_tokenizer())


@cache
def texts() -> tuple[list[str], list[str | None]]:
    """Eleven documents with a summary each: one missing, one empty, one far too long, and copies among the others."""
    draw = random.Random(2)
    documents = [random_text(draw, draw.randint(8, 20)) for _ in range(11)]
    summaries: list[str | None] = [random_summaries(draw, document, 2)[1] for document in documents]
    summaries[3], summaries[5], summaries[7] = None, "", documents[7] * 2
    return documents, summaries


def filled(begin: int = 0, end: int | None = None, novel: bool = False, budget: str | None = "80%") -> SquishMetric:
    metric = SquishMetric(scorer(), budget=budget, novel=novel)
    documents, summaries = texts()
    metric.update(documents[begin:end], summaries[begin:end])
    return metric


@pytest.mark.parametrize("novel", [False, True])
def test_mean_of_slow_scores(novel: bool) -> None:
    documents, summaries = texts()
    expected = []
    for document, summary in zip(documents, summaries, strict=True):
        allowed = summary and len(summary.strip()) <= len(document) * 4 // 5
        slow = slow_squish(make_tiny_model("qwen3", torch.float64), document, summary) if summary and allowed else None
        expected.append(0.0 if slow is None else slow.novel_score if novel else slow.score)
    assert sum(value != 0 for value in expected) == 8
    value = filled(novel=novel).compute()
    assert value.dtype == torch.float64
    assert value.shape == ()
    assert float(value) == pytest.approx(sum(expected) / 11, rel=1e-9, abs=0)


def test_novel_is_another_number() -> None:
    assert abs(float(filled().compute()) - float(filled(novel=True).compute())) > 1e-4


def test_every_document_counts_the_same_however_they_come() -> None:
    documents, summaries = texts()
    metric = SquishMetric(scorer(), budget="80%")
    for begin, end in ((0, 1), (1, 8), (8, 11)):
        metric.update([Document(d) for d in documents[begin:end]], summaries[begin:end])
    assert float(metric.compute()) == pytest.approx(float(filled().compute()), rel=1e-12)
    assert metric.interval() == pytest.approx(filled().interval(), rel=1e-12)


def test_budget() -> None:
    values = {str(budget): float(filled(budget=budget).compute()) for budget in (None, "80%", "1%")}
    assert values["1%"] == 0.0  # not one character of documents as short as these
    assert len(set(values.values())) == 3
    assert SquishMetric(scorer()).budget == SquishMetric(scorer(), budget="10%").budget
    with pytest.raises(BudgetError):
        SquishMetric(scorer(), budget="10")


def test_interval_contains_the_mean_and_stays_the_same() -> None:
    metric = filled()
    low, high = metric.interval()
    assert low < float(metric.compute()) < high
    assert metric.interval() == (low, high) == filled().interval()
    documents, summaries = texts()
    values = torch.cat([s.score for s in squish(scorer(), documents, summaries, "80%")])
    assert (low, high) == bootstrap_interval(values)
    assert metric.interval(0.5) == bootstrap_interval(values, 0.5)
    assert low < metric.interval(0.5)[0] < metric.interval(0.5)[1] < high


@pytest.mark.parametrize(("first", "second"), [(3, 11), (1, 11), (0, 11), (11, 11)])
def test_merged_states_equal_one_metric_over_all(first: int, second: int) -> None:
    left, right = filled(0, first), filled(first, second)
    left.merge_state(right)
    assert float(left.compute()) == pytest.approx(float(filled().compute()), rel=1e-12)
    sizes = {first, second - first}
    if 0 not in sizes:
        mean_of_means = (float(filled(0, first).compute()) + float(filled(first, second).compute())) / 2
        assert abs(mean_of_means - float(filled().compute())) > 1e-4  # the sizes matter


def test_clone_shares_the_scorer_and_not_the_values() -> None:
    metric = filled(0, 4)
    clone = metric.clone()
    assert clone.scorer is metric.scorer
    assert float(clone.compute()) == float(metric.compute())
    before = float(metric.compute())
    documents, summaries = texts()
    clone.update(documents[4:], summaries[4:])
    assert float(clone.compute()) == pytest.approx(float(filled().compute()), rel=1e-12)
    assert float(metric.compute()) == before


def test_reset() -> None:
    metric = filled(0, 4)
    metric.reset()
    documents, summaries = texts()
    metric.update(documents[4:], summaries[4:])
    assert float(metric.compute()) == float(filled(4).compute()) != float(filled().compute())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_documents() -> None:
    metric = SquishMetric(scorer())
    assert math.isnan(float(metric.compute()))
    assert all(math.isnan(end) for end in metric.interval())
    metric.update([], [])
    assert math.isnan(float(metric.compute()))


def test_forward_gives_the_batch_and_adds_it() -> None:
    documents, summaries = texts()
    metric = SquishMetric(scorer(), budget="80%")
    assert float(metric(documents[:4], summaries[:4])) == float(filled(0, 4).compute())
    assert float(metric(documents[4:], summaries[4:])) == float(filled(4).compute())
    assert float(metric.compute()) == pytest.approx(float(filled().compute()), rel=1e-12)


def test_wrong_lengths() -> None:
    documents, summaries = texts()
    metric = filled(0, 4)
    before = float(metric.compute())
    for d, s in ((documents[:3], summaries[:2]), (documents[:1], summaries[:2]), ([], ["x"]), (["x"], [])):
        with pytest.raises(ValueError, match=f"{len(d)} documents.* {len(s)}"):
            metric.update(d, s)
        with pytest.raises(ValueError, match="documents"):
            squish(scorer(), d, s, "10%")
    assert float(metric.compute()) == before


def test_functional_equals_the_scorer() -> None:
    documents, summaries = texts()
    results = squish(scorer(), documents, summaries, "80%")
    expected = scorer().score_batch([ScoreRequest(d, [s], "80%") for d, s in zip(documents, summaries, strict=True)])
    assert len(results) == 11
    for actual, wanted in zip(results, expected, strict=True):
        assert torch.equal(actual.score, wanted.score)
        assert torch.equal(actual.novel_score, wanted.novel_score)


def test_values_that_are_known_count_like_documents_that_are_scored() -> None:
    metric = SquishMetric(scorer())
    metric.add([0.25, -0.5])
    assert float(metric.compute()) == -0.125
    metric.add(iter([1.0]))
    assert float(metric.compute()) == 0.25
    assert metric.estimate() == estimate([0.25, -0.5, 1.0])
    assert metric.interval() == metric.estimate()[1:]
    mixed, documents, summaries = filled(0, 4), *texts()
    mixed.add(float(s.score) for s in squish(scorer(), documents[4:], summaries[4:], "80%"))
    assert mixed.estimate() == pytest.approx(filled().estimate(), rel=1e-12)


def test_an_estimate_is_mean_and_interval() -> None:
    metric = filled()
    assert metric.estimate().mean == pytest.approx(float(metric.compute()), rel=1e-15, abs=0)
    assert metric.estimate()[1:] == metric.interval()
    assert metric.estimate(0.5)[1:] == metric.interval(0.5)
    alone = filled(0, 1).estimate()  # one document does not tell how much documents vary
    assert alone.mean == float(filled(0, 1).compute())
    assert all(math.isnan(end) for end in alone[1:])


@cache
def carrying() -> SquishScorer:
    measures = [Support(), Weighted([(Squish(), 1.0), (Novel(4), -0.5)])]
    model = FrozenModel(make_tiny_model("qwen3", torch.float64))
    return SquishScorer(model, make_byte_tokenizer(), measures=measures)


def test_a_measure_with_a_zero_is_a_mean_over_all_documents() -> None:
    (_, weighted), (documents, summaries) = carrying().measures, texts()
    metric = SquishMetric(carrying(), "80%", measure=weighted)
    metric.update(documents, summaries)
    by_hand = float(filled().compute()) - 0.5 * float(filled(novel=True).compute())
    assert float(metric.compute()) == pytest.approx(by_hand, rel=1e-12)
    assert len(metric.clone()._all()) == 11


def test_a_measure_without_one_is_a_mean_over_the_summaries_that_count() -> None:
    documents, summaries = texts()
    metric = SquishMetric(carrying(), "80%", measure=Support())
    metric.update(documents, summaries)
    model = make_tiny_model("qwen3", torch.float64)
    slow = [
        float(slow_support(model, d, s).mean())
        for d, s in zip(documents, summaries, strict=True)
        if s and len(s.strip()) <= len(d) * 4 // 5
    ]
    assert len(slow) == 8
    assert float(metric.compute()) == pytest.approx(sum(slow) / 8, rel=1e-9)


def test_a_measure_that_the_scorer_does_not_carry_is_asked_of_the_scorer() -> None:
    with pytest.raises(
        SquishError, match=r"measure 'novel 3' \(it has support, 1 squish \+ .*\): pass it as measures="
    ):
        SquishMetric(carrying(), measure=Novel(3))
    with pytest.raises(SquishError, match=r"'support' \(it has none\)"):
        SquishMetric(scorer(), measure=Support())
    with pytest.raises(SquishError, match="take novel, or the measure 'support'"):
        SquishMetric(carrying(), novel=True, measure=Support())
