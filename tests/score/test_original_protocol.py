"""The original's protocol, against its rows built and summed independently, and by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from score_brute_force import BEGIN, END, byte_ids, random_summaries, random_text
from tiny import make_byte_tokenizer, make_tiny_model
from torch import Tensor
from transformers import Cache, PreTrainedModel

from squish_pl.benchmark.references import Reference
from squish_pl.errors import ModelError
from squish_pl.score.ensemble import make_scorer
from squish_pl.score.measures.savings import Contrast
from squish_pl.score.original import OriginalTemplate
from squish_pl.score.reference import FrozenModel, ReferenceModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.score.template import ScoreTemplate

BEFORE = (
    "The following is a summary of a document followed by the document itself. The summary is within a <summary> tag "
    "and the document is within a <document> tag.\n\n<summary>"
)
AFTER, CLOSING = "</summary>\n<document>", "</document>"


def cross_entropies(model: PreTrainedModel, row: Sequence[int]) -> Tensor:
    """[L - 1] nats of every token of a row but its first."""
    ids = torch.tensor([row])
    with torch.no_grad():
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0].double()
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")


def slow_original(model: PreTrainedModel, document: str, summary: str) -> tuple[float, float]:
    """(I(d), I(d | s)): whole rows, and a mask over what is predicted, one to the left of what is summed."""
    alone = cross_entropies(model, [END, *byte_ids(document), END])
    before = [END, *byte_ids(BEFORE), *byte_ids(summary), *byte_ids(AFTER)]
    row = [*before, *byte_ids(document), *byte_ids(CLOSING), END]
    mask = torch.zeros(len(row), dtype=torch.bool)
    mask[len(before) : len(before) + len(byte_ids(document))] = True
    return float(alone.sum()), float(cross_entropies(model, row)[mask[:-1]].sum())


def scorer_of(reference: ReferenceModel, **settings: object) -> SquishScorer:
    return make_scorer(reference, make_byte_tokenizer(), ScoreSettings(protocol="original", **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_tokens", [1, 8192])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_equals_the_originals_sums(architecture: str, batch_tokens: int) -> None:
    model = make_tiny_model(architecture, torch.float64, seed=1)
    scorer = scorer_of(FrozenModel(model), batch_tokens=batch_tokens)
    draw = random.Random(0)
    documents = [random_text(draw, pieces) for pieces in (14, 4, 30)]
    texts = [(d, [*random_summaries(draw, d, 4), " \n", " x "]) for d in [*documents, "q"]]
    results = scorer.score_batch([ScoreRequest(d, s) for d, s in texts])
    seen = []
    for (document, summaries), scores in zip(texts, results, strict=True):
        slow = [slow_original(model, document, summary) for summary in summaries]
        assert scores.information == pytest.approx(slow[0][0], rel=1e-9, abs=0)
        wanted = torch.tensor([(alone - behind) / alone for alone, behind in slow], dtype=torch.float64)
        torch.testing.assert_close(scores.score, wanted, rtol=1e-9, atol=1e-12)
        assert scores.token_saved.shape == (len(summaries), len(byte_ids(document)))
        torch.testing.assert_close(scores.token_saved.double().sum(1), scores.saved, rtol=1e-5, atol=1e-6)
        seen += wanted.tolist()
    assert max(seen) - min(seen) > 0.05  # not trivial


class Bigrams(ReferenceModel):
    """Each token's probability depends on the one before alone; 1/1024 where nothing is said of it."""

    device, context_length = torch.device("cpu"), 4096

    def __init__(self, known: dict[tuple[int, int], float]) -> None:
        p = torch.full((258, 258), 1 / 1024, dtype=torch.float64)
        for pair, probability in known.items():
            p[pair] = probability
        p[:, BEGIN] += 1 - p.sum(1)  # a token that never comes, so that each row is a distribution
        self.log_p = p.log()

    def hidden(self, input_ids: Tensor, cache: Cache | None = None) -> Tensor:
        return torch.nn.functional.one_hot(input_ids, 258).double()

    def head(self, hidden: Tensor) -> Tensor:
        return hidden @ self.log_p


def test_by_hand() -> None:
    """Alone: a 1 bit, b 2 bits, the end 3 bits. Behind a summary: b 2 bits, the < of the closing tag 2 bits."""
    (a,), (b,), (less,) = byte_ids("a"), byte_ids("b"), byte_ids("<")
    reference = Bigrams({(END, a): 1 / 2, (a, b): 1 / 4, (b, END): 1 / 8, (b, less): 1 / 4})
    bit = math.log(2)
    scores = scorer_of(reference).score("ab", ["x", "", None, "xx"], "1 char")
    assert scores.information == pytest.approx(6 * bit, rel=1e-9)
    assert scores.score.tolist() == pytest.approx([2 / 6, 0, 0, 0], rel=1e-9)
    # the first token is free behind a summary; what comes behind the document counts at its last one
    assert scores.token_saved[0].tolist() == pytest.approx([1 * bit, (2 + 3) * bit - (2 + 2) * bit], rel=1e-6)


def test_white_space_around_a_summary_counts() -> None:
    scorer = scorer_of(FrozenModel(make_tiny_model("llama", torch.float64)))
    scores = scorer.score("a document of some length", ["ab", " ab", "ab ", " ab "], "3 chars")
    assert scores.within_budget.tolist() == [True, True, True, False]
    assert len(set(scores.score.tolist())) == 4


def test_other_documents_are_summed_the_same_way() -> None:
    model = make_tiny_model("qwen3", torch.float64, seed=3)
    scorer = scorer_of(FrozenModel(model), measures=[Contrast()])
    here, there, summary = "the ferry left", "nobody saw it", "a ferry"
    (value,) = scorer.score_batch([ScoreRequest(here, [summary], other=there)])[0].measures["contrast"].tolist()
    (a, b), (c, d) = slow_original(model, here, summary), slow_original(model, there, summary)
    assert value == pytest.approx((a - b) / a - (c - d) / c, rel=1e-9)


class TestSettings:
    def test_the_protocol_brings_its_template(self) -> None:
        settings = ScoreSettings(template=ScoreTemplate(support_frame="<{document}>"), protocol="original")
        assert settings.template == OriginalTemplate(support_frame="<{document}>")
        assert settings.problems() == []
        assert settings.template.frame == f"{BEFORE}{{summary}}{AFTER}"

    def test_and_none_beside_it(self) -> None:
        settings = ScoreSettings(template=ScoreTemplate(frame="{summary}"), protocol="original")
        assert settings.problems() == ["score.template must be left out where protocol is original, which has its own"]

    def test_scores_of_the_two_protocols_are_kept_apart(self, tiny_model_folder: Path) -> None:
        """Even under the same words."""
        reference, cpu = Reference(base=str(tiny_model_folder)), torch.device("cpu")
        worded = ScoreSettings(ScoreTemplate(frame=OriginalTemplate().frame, start_token="</s>"))
        found = [
            reference.identity(settings, cpu)
            for settings in (ScoreSettings(), worded, ScoreSettings(protocol="original"))
        ]
        assert len(set(found)) == 3

    def test_a_tokenizer_without_an_end_token(self) -> None:
        tokenizer = make_byte_tokenizer()
        tokenizer.eos_token = None
        with pytest.raises(ModelError, match="end token"):
            SquishScorer(FrozenModel(make_tiny_model()), tokenizer, OriginalTemplate())
