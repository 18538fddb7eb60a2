"""What one scoring pass tells, against an independent slow computation in float64."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from evidence_tools import made_up, slow_ending, slow_support
from score_brute_force import END, byte_ids, random_summaries, random_text, slow_information, slow_squish
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model
from transformers import PreTrainedModel

from squish_pl.errors import ConfigError, DataError
from squish_pl.lm.held_prefix import HeldPrefix
from squish_pl.score.evidence import NEEDS, Evidence, Need, pack, unpack
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.template import ScoreTemplate

RTOL = 1e-9
BOTH = frozenset[Need]({"support", "support_alone"})


@cache
def model_of(architecture: str) -> PreTrainedModel:
    return make_tiny_model(architecture, torch.float64, seed=1)


@cache
def texts() -> list[tuple[str, list[str]]]:
    draw = random.Random(3)
    documents = [random_text(draw, pieces) for pieces in (12, 3, 25)]
    return [(d, random_summaries(draw, d, count)) for d, count in zip(documents, (5, 2, 4), strict=True)]


def scorer_of(architecture: str, template: ScoreTemplate | None = None, **settings: int) -> SquishScorer:
    return SquishScorer(FrozenModel(model_of(architecture)), make_byte_tokenizer(), template, **settings)


def requests() -> list[ScoreRequest]:
    return [ScoreRequest(document, summaries) for document, summaries in texts()]


def near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=RTOL, atol=1e-12, equal_nan=True)


def same(actual: Evidence, expected: Evidence) -> None:
    """Alike up to float64 rounding."""
    assert actual.document_ids == expected.document_ids
    assert actual.summary_ids == expected.summary_ids
    assert torch.equal(actual.within_budget, expected.within_budget)
    near(actual.information, expected.information)
    near(actual.saved, expected.saved)
    for mine, theirs in ((actual.support, expected.support), (actual.support_alone, expected.support_alone)):
        assert (mine is None) == (theirs is None)
        for a, b in zip(mine or (), theirs or (), strict=True):
            near(a, b)


@pytest.mark.parametrize("batch_tokens", [1, 300, 8192])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_slow_computation(architecture: str, batch_tokens: int) -> None:
    model = model_of(architecture)
    found = scorer_of(architecture, batch_tokens=batch_tokens).evidence(requests(), needs=BOTH)
    for (document, summaries), evidence in zip(texts(), found, strict=True):
        assert evidence.document_ids == tuple(byte_ids(document))
        near(evidence.information, slow_information(model, [256], byte_ids(document)))
        assert evidence.size == len(summaries)
        for i, summary in enumerate(summaries):
            assert evidence.summary_ids[i] == tuple(byte_ids(summary.strip()))
            near(evidence.saved[i], slow_squish(model, document, summary).token_saved)
            near(evidence.support[i], slow_support(model, document, summary))
            near(evidence.support_alone[i], slow_support(model, None, summary))
            near(evidence.ending[i], slow_ending(model, document, summary))


def test_the_cases_mean_something() -> None:
    """The document moves the summary's likelihood, and the two documents move it differently."""
    (one, two), summary = (texts()[0][0], texts()[2][0]), texts()[0][1][0]
    values = [float(slow_support(model_of("llama"), d, summary).mean()) for d in (None, one, two)]
    assert min(abs(values[a] - values[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_another_support_frame_and_start_token() -> None:
    template = ScoreTemplate(support_frame="<{document}> ", start_token="</s>")
    document, summaries = texts()[1]
    (found,) = scorer_of("qwen3", template).evidence([ScoreRequest(document, summaries)], needs=BOTH)
    for i, summary in enumerate(summaries):
        near(found.support[i], slow_support(model_of("qwen3"), document, summary, "<{document}> ", END))
        near(found.support_alone[i], slow_support(model_of("qwen3"), None, summary, start=END))


def test_a_document_that_spells_the_field_is_left_as_it_is() -> None:
    document = "a {document} of {summary}"
    (found,) = scorer_of("llama").evidence([ScoreRequest(document, ["abc"])], needs=BOTH)
    near(found.support[0], slow_support(model_of("llama"), document, "abc"))


def test_batch_and_order_change_nothing() -> None:
    scorer, whole = scorer_of("qwen3"), requests()
    together = scorer.evidence(whole, needs=BOTH)
    for request, expected in zip(whole, together, strict=True):
        same(scorer_of("qwen3").evidence([request], needs=BOTH)[0], expected)
    for request, expected in zip(whole[::-1], scorer_of("qwen3").evidence(whole[::-1], needs=BOTH), strict=True):
        same(expected, together[whole.index(request)])
    request = whole[0]
    (turned,) = scorer.evidence([ScoreRequest(request.document, request.summaries[::-1])], needs=BOTH)
    near(turned.saved.flip(0), together[0].saved)
    for mine, theirs in zip(turned.support[::-1], together[0].support, strict=True):
        near(mine, theirs)


def test_what_is_not_measured() -> None:
    document = "the ferry left at dawn"
    request = ScoreRequest(document, ["quay", None, " \n", "a long, long, long one"], "5 chars")
    scorer = scorer_of("llama")
    (found,) = scorer.evidence([request], needs=BOTH)
    assert found.within_budget.tolist() == [True, False, True, False]
    assert [len(ids) for ids in found.summary_ids] == [4, 0, 0, 22]
    assert found.saved[0].isfinite().all()
    assert (found.saved[1:3] == 0).all()
    assert found.saved[3].isnan().all()
    for log_probs in (found.support, found.support_alone):
        assert [len(row) for row in log_probs] == [4, 0, 0, 22]
        assert log_probs[0].isfinite().all()
        assert log_probs[3].isnan().all()
    (found,) = scorer.evidence([request], needs=BOTH, skip_over_budget=False)
    near(found.support[3], slow_support(model_of("llama"), document, request.summaries[3]))
    near(found.saved[3], slow_squish(model_of("llama"), document, request.summaries[3]).token_saved)
    assert not found.within_budget[3]


def test_a_document_without_tokens_and_a_request_without_summaries() -> None:
    empty, bare = scorer_of("llama").evidence([ScoreRequest("", ["a"]), ScoreRequest("abc", [])], needs=BOTH)
    assert empty.saved.shape == (1, 0)
    assert empty.total == 0
    assert empty.support[0].isnan().all()
    assert bare.saved.shape == (0, 3)
    assert bare.support == bare.support_alone == ()


def test_a_document_is_read_once_for_its_group_and_only_where_it_is_asked_for() -> None:
    scorer, request = scorer_of("llama"), ScoreRequest("abcd", ["xy", "xy", "xyz"])
    (found,) = scorer.evidence([request])
    assert found.support is None
    assert found.support_alone is None
    assert found.elsewhere is None
    framed = len("A summary of the article that follows:\n\n\nThe article:\n")
    scored = (1 + framed + 2 + 3) + (1 + framed + 3 + 3)
    assert scorer.take_tokens() == 4 + scored
    scorer.evidence([request], needs={"support"})
    assert scorer.take_tokens() == scored + 1 + len("The article:\nabcd\n\nA summary of the article:\n") + 2 + 3
    scorer.evidence([request], needs={"support_alone"})
    assert scorer.take_tokens() == scored + 2 + 3


@pytest.mark.parametrize("batch_tokens", [1, 8192])
def test_windows_reach_into_the_prefix(batch_tokens: int) -> None:
    """A model that does not see the prefix's beginning."""
    model = make_tiny_model("mistral", torch.float64, seed=1, window=8)
    scorer = SquishScorer(FrozenModel(model), make_byte_tokenizer(), batch_tokens=batch_tokens)
    document, summaries = texts()[1]
    (found,) = scorer.evidence([ScoreRequest(document, summaries)], needs={"support"})
    for i, summary in enumerate(summaries):
        near(found.support[i], slow_support(model, document, summary))
        near(found.ending[i], slow_ending(model, document, summary))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("batch_tokens", [1, 8192])
def test_a_prefix_that_cannot_be_held_is_read_in_every_row(architecture: str, batch_tokens: int, monkeypatch) -> None:
    monkeypatch.setattr(HeldPrefix, "can_hold", staticmethod(lambda read: False))
    found = scorer_of(architecture, batch_tokens=batch_tokens).evidence(requests(), needs={"support"})
    for (document, summaries), evidence in zip(texts(), found, strict=True):
        for i, summary in enumerate(summaries):
            near(evidence.support[i], slow_support(model_of(architecture), document, summary))
            near(evidence.ending[i], slow_ending(model_of(architecture), document, summary))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_summaries_save_elsewhere(architecture: str) -> None:
    model, whole = model_of(architecture), requests()
    found = scorer_of(architecture).evidence(whole, needs={"elsewhere"})
    for request, evidence, other in zip(whole, found, [*whole[1:], whole[0]], strict=True):
        expected = [slow_squish(model, other.document, summary).score for summary in request.summaries]
        near(evidence.elsewhere, torch.tensor(expected, dtype=torch.float64))
    named = [ScoreRequest(r.document, r.summaries, other=whole[0].document) for r in whole]
    same_document, *others = scorer_of(architecture).evidence(named, needs={"elsewhere"})
    assert same_document.elsewhere.isnan().all()
    for request, evidence in zip(whole[1:], others, strict=True):
        expected = [slow_squish(model, whole[0].document, summary).score for summary in request.summaries]
        near(evidence.elsewhere, torch.tensor(expected, dtype=torch.float64))


def test_elsewhere_of_what_is_not_measured() -> None:
    first = ScoreRequest("the ferry", ["quay", None, "", "a long, long one"], "5 chars")
    one, empty, alone = (
        scorer_of("llama").evidence(some, needs={"elsewhere"})[0]
        for some in ([first, ScoreRequest("dawn", [])], [first, ScoreRequest("", [])], [first])
    )
    assert one.elsewhere[0].isfinite()
    assert one.elsewhere[1:3].tolist() == [0, 0]
    assert one.elsewhere[3].isnan()
    for evidence in (empty, alone):
        assert evidence.elsewhere.isnan().tolist() == [True, False, False, True]


def test_scores_are_made_of_it() -> None:
    scored, evidence = scorer_of("qwen3").score_batch(requests()), scorer_of("qwen3").evidence(requests())
    for scores, found in zip(scored, evidence, strict=True):
        assert scores.information == found.total
        assert torch.equal(scores.token_saved, found.saved.float())
        assert scores.saved.tolist() == [float(row.sum()) for row in found.saved]


def test_too_long_for_the_reference_is_one_message() -> None:
    scorer = SquishScorer(FrozenModel(make_tiny_model("llama", context=90)), make_byte_tokenizer())
    with pytest.raises(DataError, match="cut documents to fewer tokens"):
        scorer.evidence([ScoreRequest("ab" * 40, ["x"])], needs=BOTH)


def test_the_support_frame_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"template.support_frame must hold \{document\} exactly once, but is 'no'"):
        SquishScorer(FrozenModel(make_tiny_model()), make_byte_tokenizer(), ScoreTemplate(support_frame="no"))


@pytest.mark.parametrize("needs", [(), ("support",), NEEDS])
def test_bytes_and_back_exactly(needs: tuple[Need, ...]) -> None:
    request = ScoreRequest("the ferry left", ["quay", None, "far too long"], "5 chars")
    for found in scorer_of("llama").evidence([request, ScoreRequest("", [])], needs=needs):
        again = unpack(pack(found))
        assert again.document_ids == found.document_ids
        assert again.summary_ids == found.summary_ids
        assert again.within_budget.equal(found.within_budget)
        for a, b in ((again.information, found.information), (again.saved, found.saved)):
            assert a.dtype == torch.float64
            assert a.numpy().tobytes() == b.numpy().tobytes()
            assert a.shape == b.shape
        assert all((getattr(again, name) is None) == (name not in needs) for name in NEEDS)
        if "support" in needs:
            assert again.ending.numpy().tobytes() == found.ending.numpy().tobytes()
        for name in set(needs) & {"elsewhere", "sentences"}:
            assert getattr(again, name).numpy().tobytes() == getattr(found, name).numpy().tobytes()
        for name in set(needs) - {"elsewhere", "sentences"}:
            pairs = zip(getattr(again, name), getattr(found, name), strict=True)
            assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)


def test_damaged_bytes_are_told() -> None:
    packed = pack(made_up([1.0], [[0.5]]))
    for damaged in (b"", packed[:40], b"nothing"):
        with pytest.raises(ValueError, match="no evidence"):
            unpack(damaged)
