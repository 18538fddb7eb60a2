"""Candidate scores by hand on made-up evidence, and against slow computations on tiny models."""

from __future__ import annotations

import math
import random
from functools import cache
from itertools import pairwise

import pytest
import torch
from evidence_tools import made_up, slow_ending, slow_support
from score_brute_force import (
    BEGIN,
    byte_ids,
    random_summaries,
    random_text,
    slow_copied,
    slow_information,
    slow_squish,
)
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model
from transformers import PreTrainedModel

from squish_pl.score.evidence import NEEDS, Evidence
from squish_pl.score.measures.base import Measure, measure_key
from squish_pl.score.measures.candidates import default_measures
from squish_pl.score.measures.copies import AlignedNovel, BeyondCopying, Novel, SmoothNovel
from squish_pl.score.measures.fair import Fair
from squish_pl.score.measures.savings import Clipped, Harm, Positive, Squish
from squish_pl.score.measures.shannon import ShannonScore
from squish_pl.score.measures.support import Ending, Support, SupportGain, WeakestSupport
from squish_pl.score.measures.weighted import Weighted
from squish_pl.score.novelty import copied_tokens, longest_copies
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer


def values(measure: Measure, evidence: Evidence) -> list[float]:
    found = measure(evidence, [evidence])
    assert found.dtype == torch.float64
    assert found.shape == (evidence.size,)
    return found.tolist()


# document 5 6 7 8 9; the first summary copies 6 7, the second nothing; I = 10
BY_HAND = made_up(
    information=[1, 2, 3, 3, 1],
    saved=[[0.5, 2, 2.5, -3, 0], [0.25, -0.5, 0.5, 0.25, 0.5]],
    document=[5, 6, 7, 8, 9],
    summaries=[[6, 7, 4], [1, 2]],
    support=[[-1, -2, -3], [-4, -6]],
    alone=[[-2, -2, -5], [-4, -4]],
    ending=[math.log(0.225), math.log(0.025)],
)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (Squish(), [0.2, 0.1]),
        (Novel(2), [-0.25, 0.1]),
        (Novel(3), [0.2, 0.1]),
        (Clipped(1.0), [0.15, 0.1]),
        (Clipped(0.25), [0.05, 0.075]),
        (Positive(), [0.5, 0.15]),
        (Harm(), [0.3, 0.05]),
        # 6 and 7 lie in a shared run of two: weight 1 / (1 + 2 / 2) = 1/2, or 1 / (1 + 2 / 4) = 2/3
        (SmoothNovel(2), [(0.5 + 1 + 1.25 - 3) / 10, 0.1]),
        (SmoothNovel(), [(0.5 + 2 * 2 / 3 + 2.5 * 2 / 3 - 3) / 10, 0.1]),
        (Support(), [-2, -5]),
        (SupportGain(), [1, -1]),
        (Weighted([(Squish(), 10), (SupportGain(), -0.5)]), [1.5, 1.5]),
        (WeakestSupport(), [-3, -6]),
        (WeakestSupport(0.5), [-2.5, -6]),
        (Ending(), [math.log(0.225), math.log(0.025)]),
        # an alignment of two, 6 and 7
        (AlignedNovel(2), [(0.5 + 1 + 1.25 - 3) / 10, 0.1]),
        # helps 0.5 + (2 + 2.5) / (1 + 2 / 16), hurts 3; helps 1.5, hurts 0.5; endings of 3/4 and 1/4
        (Fair(), [4.5**2 / (4.5 + 24) / 10 * math.exp(-0.9) * 0.75, 1.5**2 / (1.5 + 4) / 10 * math.exp(-1.8) / 4]),
        (Fair(run=2, harm=0, support=0, ending=0.025), [2.75 / 10 * 0.9, 1.5 / 10 / 2]),
    ],
)
def test_by_hand(measure: Measure, expected: list[float]) -> None:
    assert values(measure, BY_HAND) == pytest.approx(expected, rel=1e-14)


def test_what_does_not_count_is_zero_and_has_no_likelihood() -> None:
    nan = math.nan
    evidence = made_up(
        information=[1, 3],
        saved=[[0.5, 0.5], [0.5, 0.5], [nan, nan], [0, 0], [0, 0]],
        document=[5, 6],
        summaries=[[1], [1], [1, 2], [], []],
        within=[True, False, False, True, False],  # over the budget, twice; an empty one; a missing one
        support=[[-1], [-1], [nan, nan], [], []],
        alone=[[-2], [-2], [nan, nan], [], []],
        ending=[-1, -1, nan, nan, nan],
    )
    expected = {"support": -1, "weakestsupport 0.2": -1, "supportgain": 1, "ending": -1}
    expected["harm"] = 0
    expected["fair"] = 0.25 * math.exp(-0.3) / (1 + 0.075 * math.e)
    for measure in default_measures():
        counted, *others = values(measure, evidence)
        assert counted == pytest.approx(expected.get(measure.name, 0.25), rel=1e-14)
        none = [0.0] * 4 if measure.has_zero else [nan] * 4
        assert others == pytest.approx(none, abs=0, nan_ok=True)
    mixed = values(Weighted([(Squish(), 1), (Support(), 1)]), evidence)
    assert mixed == pytest.approx([-0.75, nan, nan, nan, nan], nan_ok=True)


def test_a_document_that_tells_nothing() -> None:
    for information, saved in (([], [[], []]), ([0.0, 0.0], [[0, 0], [0, 0]])):
        for measure in (Squish(), Novel(), Clipped(), Positive(), SmoothNovel(), AlignedNovel(), BeyondCopying()):
            assert values(measure, made_up(information, saved)) == [0, 0]
    assert values(Squish(), made_up([1.0], [])) == []


def test_likelihoods_that_nobody_asked_for() -> None:
    for measure in (Support(), SupportGain(), WeakestSupport(), Ending(), Fair(), Weighted([(Support(), 1.0)])):
        assert "support" in measure.needs
        with pytest.raises(ValueError, match="ask for it with needs="):
            measure(made_up([1.0], [[0.5]]), [])
    assert not Weighted([(Squish(), 1.0)]).needs


def test_names_tell_arguments() -> None:
    assert [m.name for m in default_measures()] == [
        "fair",
        "squish",
        "clipped 1",
        "positive",
        "harm",
        "novel 4",
        "smoothnovel 4",
        "alignednovel 8",
        "beyondcopying 0.5",
        "support",
        "weakestsupport 0.2",
        "supportgain",
        "ending",
    ]
    assert Fair(run=8, support=0.5).name == "fair run 8 support 0.5"
    inner = Weighted([(Novel(2), 1), (Clipped(0.5), 0.25)])
    assert inner.name == "1 novel 2 + 0.25 clipped 0.5"
    assert Weighted([(inner, 2), (Squish(), -1)]).name == "2 (1 novel 2 + 0.25 clipped 0.5) + -1 squish"


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (Novel(0), "n must be at least 1, but is 0"),
        (Clipped(0), "nats must be a finite number above 0, but is 0"),
        (Clipped(math.inf), "nats must be a finite number above 0, but is inf"),
        (SmoothNovel(-1), "n must be a finite number above 0, but is -1"),
        (AlignedNovel(0), "n must be a finite number above 0, but is 0"),
        (BeyondCopying(1), "copying must lie between 0 and 1, but is 1"),
        (WeakestSupport(0), "share must lie above 0 and be at most 1, but is 0"),
        (Fair(run=0), "run must be a finite number above 0, but is 0"),
        (Fair(ending=0), "ending must be a finite number above 0, but is 0"),
        (Fair(harm=-1), "harm must be a finite number of at least 0, but is -1"),
        (Fair(support=math.inf), "support must be a finite number of at least 0, but is inf"),
        (Weighted([]), "parts must name at least one"),
        (Weighted([(Squish(), math.nan)]), "the weight of squish must be a finite number, but is nan"),
        (Weighted([(Novel(0), 1)]), "novel 0: n must be at least 1"),
    ],
)
def test_problems(measure: Measure, words: str) -> None:
    (problem,) = measure.problems()
    assert words in problem


def test_the_defaults_have_no_problems() -> None:
    assert [problem for measure in default_measures() for problem in measure.problems()] == []


def slow_longest(document: list[int], summary: list[int]) -> list[int]:
    """By the definition: the longest part of the document that covers a token and stands in the summary."""
    said = {tuple(summary[a:b]) for a in range(len(summary)) for b in range(a + 1, len(summary) + 1)}
    longest = [0] * len(document)
    for a in range(len(document)):
        for b in range(a + 1, len(document) + 1):
            if tuple(document[a:b]) in said:
                longest[a:b] = [max(x, b - a) for x in longest[a:b]]
    return longest


def test_longest_copies_by_the_definition() -> None:
    assert longest_copies([5, 6, 7, 8, 6], [9, 6, 7]).tolist() == [0, 2, 2, 0, 1]
    assert longest_copies([], [1]).tolist() == []
    assert longest_copies([1, 2], []).tolist() == [0, 0]
    draw = random.Random(0)
    for _ in range(60):
        document = draw.choices(range(3), k=draw.randint(1, 25))
        summary = draw.choices(range(4), k=draw.randint(1, 12))
        found = longest_copies(document, summary)
        assert found.tolist() == slow_longest(document, summary)
        for n in range(1, 6):
            assert (found >= n).equal(copied_tokens(document, summary, n))


# ---- against slow computations on tiny models ----


@cache
def model_of(architecture: str) -> PreTrainedModel:
    return make_tiny_model(architecture, torch.float64, seed=4)


@cache
def texts() -> list[tuple[str, list[str]]]:
    draw = random.Random(9)
    documents = [random_text(draw, pieces) for pieces in (10, 18)]
    return [(d, random_summaries(draw, d, 4)) for d in documents]


def slow_values(model: PreTrainedModel, document: str, summary: str) -> dict[str, float]:
    slow = slow_squish(model, document, summary)
    ids, said = byte_ids(document), byte_ids(summary.strip())
    saved = slow.token_saved.tolist()
    here, alone = slow_support(model, document, summary).tolist(), slow_support(model, None, summary).tolist()
    longest = slow_longest(ids, said)
    nats = {
        "squish": sum(saved),
        "novel 3": sum(x for x, c in zip(saved, slow_copied(ids, said, 3), strict=True) if not c),
        "clipped 0.5": sum(min(max(x, -0.5), 0.5) for x in saved),
        "positive": sum(x for x in saved if x > 0),
        "harm": -sum(x for x in saved if x < 0),
        "smoothnovel 4": sum(x * 4 / (4 + m) for x, m in zip(saved, longest, strict=True)),
    }
    helps = sum(x * 16 / (16 + m) for x, m in zip(saved, longest, strict=True) if x > 0)
    hurts = -sum(x for x in saved if x < 0)
    weakest = sorted(here)[: math.ceil(len(here) / 5)]
    ends = math.exp(float(slow_ending(model, document, summary)))
    nats["fair"] = helps**2 / (helps + 8 * hurts) * math.exp(0.3 * sum(weakest) / len(weakest)) * ends / (ends + 0.075)
    shares = {name: value / slow.information for name, value in nats.items()}
    return shares | {
        "shannonscore": slow_shannon(model, document, summary),
        "support": sum(here) / len(here),
        "supportgain": sum(a - b for a, b in zip(here, alone, strict=True)) / len(here),
    }


def slow_sentences(text: str) -> list[str]:
    """A line ends a sentence, and so does a full stop before white space and no small letter."""
    cuts = [i for i, sign in enumerate(text) if sign == "\n"]
    for i, sign in enumerate(text):
        rest = text[i + 1 :]
        if sign == "." and rest[:1].isspace() and rest.strip() and not "a" <= rest.strip()[0] <= "z":
            cuts.append(i + 1)
    cuts = [0, *sorted(cuts), len(text)]
    return [part.strip() for part in (text[a:b] for a, b in pairwise(cuts)) if part.strip()]


def slow_shannon(model: PreTrainedModel, document: str, summary: str) -> float:
    sums = {"alone": 0.0, "summary": 0.0, "itself": 0.0}
    for sentence in slow_sentences(document):
        for name, prefix in (("alone", ""), ("summary", summary.strip()), ("itself", sentence)):
            sums[name] += float(slow_information(model, [BEGIN, *byte_ids(prefix)], byte_ids(sentence)).sum())
    return (sums["alone"] - sums["summary"]) / (sums["alone"] - sums["itself"])


def test_shannon_score_by_hand() -> None:
    """Two sentences; the summary, the first one's own text, saves all that can be saved of it."""
    model = model_of("llama")
    scorer = SquishScorer(FrozenModel(model), make_byte_tokenizer())
    document, first, second = "A goat left. Nobody saw it.", "A goat left.", "Nobody saw it."

    def nats(prefix: str, text: str) -> float:
        return float(slow_information(model, [BEGIN, *byte_ids(prefix)], byte_ids(text)).sum())

    summaries = [first, None, "", "much longer than allowed"]
    (found,) = scorer.evidence([ScoreRequest(document, summaries, "12 chars")], needs={"sentences"})
    alone, itself = nats("", first) + nats("", second), nats(first, first) + nats(second, second)
    expected = (alone - nats(first, first) - nats(first, second)) / (alone - itself)
    assert abs(expected) > 0.01
    assert values(ShannonScore(), found) == pytest.approx([expected, 0, 0, 0], rel=1e-9)
    with pytest.raises(ValueError, match="has no sentences"):
        ShannonScore()(made_up([1.0], [[0.5]]), [])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equal_slow_computation(architecture: str) -> None:
    scorer = SquishScorer(FrozenModel(model_of(architecture)), make_byte_tokenizer(), batch_tokens=500)
    found = scorer.evidence([ScoreRequest(document, summaries) for document, summaries in texts()], needs=NEEDS)
    measures = [Squish(), Novel(3), Clipped(0.5), Positive(), Harm(), SmoothNovel(), Support(), SupportGain()]
    measures += [Fair(), ShannonScore()]
    for (document, summaries), evidence in zip(texts(), found, strict=True):
        slow = [slow_values(model_of(architecture), document, summary) for summary in summaries]
        assert set(slow[0]) == {measure.name for measure in measures}
        for measure in measures:
            assert measure(evidence, found).tolist() == pytest.approx([s[measure.name] for s in slow], rel=1e-8)


def test_the_scorers_scores_are_the_measures() -> None:
    scorer = SquishScorer(FrozenModel(model_of("llama")), make_byte_tokenizer(), novel_ngram=3)
    requests = [ScoreRequest(document, [*summaries, None, ""], "30 chars") for document, summaries in texts()]
    for scores, evidence in zip(scorer.score_batch(requests), scorer.evidence(requests), strict=True):
        assert scores.score.equal(Squish()(evidence, []))
        assert scores.novel_score.equal(Novel(3)(evidence, []))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("support", "support"),
        ("novel 4", "novel_4"),
        ("1 squish + -0.5 (2 novel 4 + 1 support)", "1_squish_-0.5_2_novel_4_1_support"),
        (" a@b/c ", "a_b_c"),
        ("+", ""),
    ],
)
def test_keys_hold_no_spaces_and_signs(name: str, key: str) -> None:
    assert measure_key(name) == key


def test_a_measure_tells_its_class_and_settings() -> None:
    assert repr(Weighted([(Novel(3), 0.5)])) == "Weighted(parts=[(Novel(n=3), 0.5)])"
    assert Novel(3).key == "novel_3"


def test_what_no_summary_does_earns_less() -> None:
    """Each of the fair score's four parts, alone."""
    kinds = {"good": ([1, 1], [-1], -0.1), "hurts": ([1.5, -0.5], [-1], -0.1)}
    kinds |= {"unlikely": ([1, 1], [-2], -0.1), "broken off": ([1, 1], [-1], -4)}
    found = {}
    for name, (saved, support, ending) in kinds.items():
        evidence = made_up([5, 5], [saved], [1, 2], [[9]], support=[support], ending=[ending])
        (found[name],) = values(Fair(), evidence)
    copied = made_up([5, 5], [[1, 1]], [1, 2], [[1, 2]], support=[[-1, -1]], ending=[-0.1])
    (found["copied"],) = values(Fair(), copied)
    assert all(0 < value < found["good"] for name, value in found.items() if name != "good")
