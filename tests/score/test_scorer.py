"""What the scorer spends, remembers, refuses and guarantees."""

from __future__ import annotations

import math
import random

import pytest
import torch
from score_brute_force import BEGIN, END, FRAME, byte_ids, random_text, slow_information, slow_squish
from tiny import make_byte_tokenizer, make_tiny_model
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from squish_pl.errors import BudgetError, ConfigError, DataError, ModelError
from squish_pl.score.reference import FrozenModel, ReferenceModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.template import ScoreTemplate

DOCUMENT = "the ferry left before dawn, and nobody on the quay saw who steered it"  # 69 characters, 69 tokens
FRAME_TOKENS = len(FRAME.replace("{summary}", ""))


class CountingReference(ReferenceModel):
    """Passes everything on, and keeps the rows that were read."""

    def __init__(self, inner: ReferenceModel) -> None:
        self.inner = inner
        self.rows: list[list[int]] = []
        self.sizes: list[tuple[int, int]] = []

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def context_length(self) -> int:
        return self.inner.context_length

    def hidden(self, input_ids: Tensor) -> Tensor:
        self.rows += input_ids.tolist()
        self.sizes.append((input_ids.shape[0], input_ids.shape[1]))
        return self.inner.hidden(input_ids)

    def head(self, hidden: Tensor) -> Tensor:
        return self.inner.head(hidden)

    def take(self) -> list[list[int]]:
        rows, self.rows = self.rows, []
        return rows


@pytest.fixture(scope="module")
def plain() -> FrozenModel:
    return FrozenModel(make_tiny_model("qwen3", torch.float64))


@pytest.fixture
def reference(plain: FrozenModel) -> CountingReference:
    return CountingReference(plain)


@pytest.fixture
def scorer(reference: CountingReference) -> SquishScorer:
    """Every row in a pass of its own, so that what is counted holds no padding."""
    return SquishScorer(reference, make_byte_tokenizer(), batch_tokens=1)


def alone_row(document: str) -> list[int]:
    return [BEGIN, *byte_ids(document)][:-1]


def summary_row(summary: str, document: str) -> list[int]:
    return [BEGIN, *byte_ids(FRAME.replace("{summary}", summary) + document)][:-1]


class TestCost:
    def test_rows_are_exactly_these(self, scorer: SquishScorer, reference: CountingReference) -> None:
        scorer.score(DOCUMENT, ["a ferry", " left early "])
        expected = [alone_row(DOCUMENT), summary_row("a ferry", DOCUMENT), summary_row("left early", DOCUMENT)]
        assert sorted(reference.take()) == sorted(expected)
        assert scorer.take_tokens() == sum(len(row) for row in expected)
        assert scorer.take_tokens() == 0

    def test_what_needs_no_model_costs_none(self, scorer: SquishScorer, reference: CountingReference) -> None:
        scorer.information([DOCUMENT])
        reference.take()
        scorer.take_tokens()
        summaries = [None, "", "  \n\t\u00a0 ", "x" * 7, " " * 100 + "x" * 7]
        scores = scorer.score(DOCUMENT, summaries, "10%")  # six characters
        assert reference.take() == []
        assert scorer.take_tokens() == 0
        assert scores.score.tolist() == [0.0] * 5
        assert scores.novel_score.tolist() == [0.0] * 5
        assert scores.saved[:3].tolist() == [0.0] * 3
        assert scores.saved[3:].isnan().all()
        assert scores.token_saved[:3].eq(0).all()
        assert scores.token_saved[3:].isnan().all()
        assert scores.token_saved.shape == (5, 69)
        assert scores.within_budget.tolist() == [False, True, True, False, False]

    def test_duplicates_cost_once(self, scorer: SquishScorer, reference: CountingReference) -> None:
        requests = [
            ScoreRequest(DOCUMENT, ["a ferry", "a ferry ", "\na ferry", "a ferry!"], "90%"),
            ScoreRequest(DOCUMENT, ["a ferry"], "8 chars"),
            ScoreRequest(DOCUMENT + ".", ["a ferry"]),
        ]
        first, second, other = scorer.score_batch(requests)
        assert len(reference.take()) == 2 + 2 + 1
        assert first.score[0] == first.score[1] == first.score[2] == second.score[0] != first.score[3]
        assert other.score[0] != first.score[0]

    def test_a_document_is_computed_once_and_remembered(
        self, scorer: SquishScorer, reference: CountingReference
    ) -> None:
        first = scorer.score(DOCUMENT, ["a ferry"])
        assert reference.take().count(alone_row(DOCUMENT)) == 1
        second = scorer.score(DOCUMENT, ["a ship"], "50%")
        assert reference.take() == [summary_row("a ship", DOCUMENT)]
        scorer.information([DOCUMENT, DOCUMENT])
        assert reference.take() == []
        assert first.information == second.information == float(scorer.information([DOCUMENT])[0].sum())

    def test_nothing_to_do(self, scorer: SquishScorer, reference: CountingReference) -> None:
        assert scorer.score_batch([]) == []
        assert scorer.information([]) == []
        scores = scorer.score(DOCUMENT, [])
        assert scores.score.shape == scores.saved.shape == scores.within_budget.shape == (0,)
        assert scores.token_saved.shape == (0, 69)
        assert scores.information > 0
        assert len(reference.take()) == 1

    def test_batches_hold_at_most_so_many_padded_tokens(self, reference: CountingReference) -> None:
        draw = random.Random(0)
        scorer = SquishScorer(reference, make_byte_tokenizer(), batch_tokens=400)
        document = random_text(draw, 10)
        scorer.score(document, [random_text(draw, n) for n in (1, 30, 2, 2, 7, 40, 3, 1, 20)])
        assert all(rows * width <= 400 or rows == 1 for rows, width in reference.sizes)
        assert any(rows > 1 for rows, _ in reference.sizes)
        assert len(reference.rows) == 10


class TestMemory:
    """The documents alone that are remembered."""

    DOCUMENTS = [f"document number {n} of a few" for n in range(6)]  # 27 tokens each

    def test_oldest_use_goes_first(self, reference: CountingReference) -> None:
        scorer = SquishScorer(reference, make_byte_tokenizer(), batch_tokens=1, cache_tokens=3 * 27)
        a, b, c, d = self.DOCUMENTS[:4]
        scorer.information([a, b, c])
        scorer.information([a])
        assert len(reference.take()) == 3
        scorer.information([d])  # b is the oldest now
        assert reference.take() == [alone_row(d)]
        scorer.information([a, c, d])
        assert reference.take() == []
        scorer.information([b])
        assert reference.take() == [alone_row(b)]

    @pytest.mark.parametrize("cache_tokens", [0, 1, 26, 27, 60, 100])
    def test_results_do_not_depend_on_it(self, plain: FrozenModel, cache_tokens: int) -> None:
        scorer = SquishScorer(plain, make_byte_tokenizer(), cache_tokens=cache_tokens)
        roomy = SquishScorer(plain, make_byte_tokenizer())
        requests = [ScoreRequest(d, ["a few", f"number {n}", None], "60%") for n, d in enumerate(self.DOCUMENTS)]
        requests += requests[:2]
        for _ in range(2):
            for scores, expected in zip(scorer.score_batch(requests), roomy.score_batch(requests), strict=True):
                assert scores.information == pytest.approx(expected.information, rel=1e-12)
                torch.testing.assert_close(scores.score, expected.score, rtol=1e-9, atol=1e-13)
                torch.testing.assert_close(scores.saved, expected.saved, rtol=1e-9, atol=1e-12)

    def test_it_is_bounded(self, reference: CountingReference) -> None:
        scorer = SquishScorer(reference, make_byte_tokenizer(), cache_tokens=60)
        for _ in range(2):
            scorer.score_batch([ScoreRequest(d, ["x"]) for d in self.DOCUMENTS])
        reference.take()
        remembered = 0
        for document in reversed(self.DOCUMENTS):  # the newest first, so that asking evicts none that is still there
            before = len(reference.rows)
            scorer.information([document])
            remembered += len(reference.rows) == before
        assert remembered == 2

    def test_a_document_too_big_for_it_is_still_computed_once_a_call(self, reference: CountingReference) -> None:
        scorer = SquishScorer(reference, make_byte_tokenizer(), batch_tokens=1, cache_tokens=10)
        scorer.score(DOCUMENT, ["a ferry", "a ship"])
        assert reference.take().count(alone_row(DOCUMENT)) == 1

    def test_more_documents_than_it_holds_are_still_computed_once_a_call(self, reference: CountingReference) -> None:
        scorer = SquishScorer(reference, make_byte_tokenizer(), batch_tokens=1, cache_tokens=3 * 27)
        scorer.score_batch([ScoreRequest(d, ["x"]) for d in self.DOCUMENTS])
        assert len(reference.take()) == 12


class TestBudgets:
    @pytest.mark.parametrize(
        ("budget", "limit", "sign"),
        [
            ("10%", 6, "x"),
            ("29 chars", 29, "x"),
            ("29 chars", 29, "\U0001f600"),
            ("10% tokens", 6, "x"),
            ("12 tokens", 12, "x"),
            ("12 tokens", 3, "\U0001f600"),  # four tokens each
        ],
    )
    def test_the_limit_passes_and_one_more_fails(
        self, scorer: SquishScorer, budget: str, limit: int, sign: str
    ) -> None:
        summaries = [sign * limit, sign * (limit + 1), f" \n{sign * limit}\t ", "  " + sign * (limit + 1)]
        scores = scorer.score(DOCUMENT, summaries, budget)
        assert scores.within_budget.tolist() == [True, False, True, False]
        assert scores.score[0] == scores.score[2] != 0
        assert scores.score[[1, 3]].tolist() == [0.0, 0.0]
        assert scores.novel_score[[1, 3]].tolist() == [0.0, 0.0]
        assert scores.saved.isnan().tolist() == [False, True, False, True]

    def test_over_budget_is_measured_where_asked_for(self, scorer: SquishScorer, reference: CountingReference) -> None:
        summaries = ["a long one, and longer", "short", None, ""]
        scores = scorer.score(DOCUMENT, summaries, "5 chars", skip_over_budget=False)
        free = scorer.score(DOCUMENT, summaries)
        assert len(reference.take()) == 1 + 2 + 2
        slow = slow_squish(make_tiny_model("qwen3", torch.float64), DOCUMENT, summaries[0] or "")
        assert abs(slow.saved) > 0.1
        assert float(scores.saved[0]) == pytest.approx(slow.saved, rel=1e-9, abs=0)
        torch.testing.assert_close(scores.token_saved[0], slow.token_saved.float(), rtol=2.5e-7, atol=1e-11)
        assert torch.equal(scores.saved, free.saved)
        assert scores.score[0] == scores.novel_score[0] == 0.0
        assert scores.score[1] == free.score[1] != 0
        assert scores.within_budget.tolist() == [False, True, False, True]

    def test_a_limit_of_zero_allows_nothing_but_nothing(self, scorer: SquishScorer) -> None:
        scores = scorer.score("nine char", ["x", "", " ", None], "10%")
        assert scores.within_budget.tolist() == [False, True, True, False]
        assert scores.score.tolist() == [0.0] * 4

    def test_no_budget_allows_any_length(self, scorer: SquishScorer) -> None:
        scores = scorer.score("short", ["x" * 300])
        assert scores.within_budget.tolist() == [True]
        assert scores.score[0] != 0

    def test_a_bad_budget_raises_before_any_pass(self, scorer: SquishScorer, reference: CountingReference) -> None:
        with pytest.raises(BudgetError):
            scorer.score_batch([ScoreRequest(DOCUMENT, ["x"], "10%"), ScoreRequest(DOCUMENT, ["x"], "10")])
        assert reference.take() == []


class TestEmptyDocument:
    @pytest.mark.parametrize("budget", [None, "10%", "5 chars"])
    def test_all_zero(self, scorer: SquishScorer, reference: CountingReference, budget: str | None) -> None:
        scores = scorer.score("", ["abc", "abcdefgh", None, ""], budget)
        assert reference.take() == []
        assert scores.information == 0.0
        assert scores.score.tolist() == scores.novel_score.tolist() == scores.saved.tolist() == [0.0] * 4
        assert scores.token_saved.shape == (4, 0)
        assert scores.within_budget.tolist() == [budget != "10%", budget is None, False, True]

    def test_among_others(self, scorer: SquishScorer) -> None:
        empty, full = scorer.score_batch([ScoreRequest("", ["abc"]), ScoreRequest(DOCUMENT, ["abc"])])
        assert empty.score.tolist() == [0.0]
        assert full.score.tolist() == scorer.score(DOCUMENT, ["abc"]).score.tolist()

    def test_float64_like_any_other(self, scorer: SquishScorer) -> None:
        scores = scorer.score("", ["abc"])
        assert scores.score.dtype == scores.novel_score.dtype == torch.float64


class TestOneTokenDocument:
    def test_equals_slow_computation(self, scorer: SquishScorer) -> None:
        model = make_tiny_model("qwen3", torch.float64)
        scores = scorer.score("x", ["x", "yes", "x marks the spot"])
        slow = [slow_squish(model, "x", s) for s in ("x", "yes", "x marks the spot")]
        assert scores.information == pytest.approx(slow[0].information, rel=1e-9, abs=0)
        assert scores.score.tolist() == pytest.approx([s.score for s in slow], rel=1e-9, abs=0)
        assert scores.novel_score.tolist() == scores.score.tolist()  # a text of one token has no 4-gram

    def test_unigrams(self, plain: FrozenModel) -> None:
        scores = SquishScorer(plain, make_byte_tokenizer(), novel_ngram=1).score("x", ["x", "yes"])
        assert scores.novel_score.tolist() == [0.0, scores.score.tolist()[1]]
        assert scores.score[0] != 0


class TestControlTokens:
    def test_text_that_spells_one_is_not_encoded_as_one(
        self, scorer: SquishScorer, reference: CountingReference
    ) -> None:
        tokenizer = scorer.tokenizer
        assert tokenizer("</s>", add_special_tokens=False)["input_ids"] == [END]
        document, summary = "one </s> two <s> three", "<s>says</s>"
        scores = scorer.score(document, [summary, "</s>"], "11 tokens")
        rows = reference.take()
        assert sorted(rows) == sorted(
            [alone_row(document), summary_row(summary, document), summary_row("</s>", document)]
        )
        assert all(row[0] == BEGIN and not {BEGIN, END} & set(row[1:]) for row in rows)
        assert scores.within_budget.tolist() == [True, True]
        assert scores.token_saved.shape == (2, 22)
        assert scorer.score(document, [summary], "10 tokens").within_budget.tolist() == [False]

    def test_later_markup_is_still_encoded_as_markup(self, scorer: SquishScorer) -> None:
        scorer.score("one </s>", ["<s>"])
        assert scorer.tokenizer("</s>", add_special_tokens=False)["input_ids"] == [END]


class TestContext:
    def test_up_to_the_last_position(self) -> None:
        length = 1 + FRAME_TOKENS + 5 + 40 - 1
        model = make_tiny_model("llama", torch.float64, context=length)
        scorer = SquishScorer(FrozenModel(model), make_byte_tokenizer())
        document = DOCUMENT[:40]
        expected = slow_squish(model, document, "ferry")
        assert float(scorer.score(document, ["ferry"]).score) == pytest.approx(expected.score, rel=1e-9, abs=0)
        with pytest.raises(DataError, match=f"{length + 1} tokens.*at most {length}"):
            scorer.score(document, ["ferry!"])
        # nothing that needs no pass can be too long
        assert scorer.score(document, ["ferry!" * 99], "50%").score.tolist() == [0.0]


class TestStart:
    def test_the_first_document_token_counts_and_follows_the_start(self, plain: FrozenModel) -> None:
        model = make_tiny_model("qwen3", torch.float64)
        for start_token, start in ((None, BEGIN), ("<s>", BEGIN), ("</s>", END), ("a", byte_ids("a")[0])):
            scorer = SquishScorer(plain, make_byte_tokenizer(), ScoreTemplate(start_token=start_token))
            information = scorer.information([DOCUMENT])[0]
            assert information.shape == (69,)
            expected = slow_information(model, [start], byte_ids(DOCUMENT))
            torch.testing.assert_close(information, expected, rtol=1e-9, atol=0)
        firsts = [float(slow_information(model, [start], byte_ids("t"))[0]) for start in (BEGIN, END)]
        assert abs(firsts[0] - firsts[1]) > 0.01

    def test_end_token_where_there_is_no_beginning(self, plain: FrozenModel) -> None:
        tokenizer = make_byte_tokenizer()
        tokenizer.bos_token = None
        assert SquishScorer(plain, tokenizer).start == END
        tokenizer.eos_token = None
        with pytest.raises(ModelError, match="start_token"):
            SquishScorer(plain, tokenizer)
        assert SquishScorer(plain, tokenizer, ScoreTemplate(start_token="<s>")).start == BEGIN

    def test_unknown_start_token(self, plain: FrozenModel) -> None:
        with pytest.raises(ModelError, match="<nowhere>"):
            SquishScorer(plain, make_byte_tokenizer(), ScoreTemplate(start_token="<nowhere>"))


class TestSettings:
    @pytest.mark.parametrize("frame", ["", "no field", "{summary}{summary}", "{ summary }"])
    def test_a_frame_holds_the_field_once(self, plain: FrozenModel, frame: str) -> None:
        with pytest.raises(ConfigError, match="exactly once"):
            SquishScorer(plain, make_byte_tokenizer(), ScoreTemplate(frame=frame))

    def test_all_problems_at_once(self, plain: FrozenModel) -> None:
        with pytest.raises(ConfigError) as caught:
            SquishScorer(plain, make_byte_tokenizer(), ScoreTemplate(frame=""), novel_ngram=0, batch_tokens=-1)
        assert len(caught.value.problems) == 3


def test_a_raw_model_is_refused() -> None:
    model = make_tiny_model("llama")
    with pytest.raises(TypeError, match="LlamaForCausalLM"):
        SquishScorer(model, make_byte_tokenizer())  # type: ignore[arg-type]


def test_two_tokenizers_of_the_same_make_give_the_same_score(plain: FrozenModel) -> None:
    scores = [SquishScorer(plain, make_byte_tokenizer(chat)).score(DOCUMENT, ["a ferry"]) for chat in (False, True)]
    assert scores[0].score == scores[1].score
    assert math.isfinite(float(scores[0].score))


def test_from_pretrained_equals_the_model_itself(tiny_model_folder: object) -> None:
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder), dtype="float64", novel_ngram=2, batch_tokens=99)
    assert isinstance(scorer.tokenizer, PreTrainedTokenizerFast)
    assert (scorer.novel_ngram, scorer.batch_tokens) == (2, 99)
    expected = slow_squish(make_tiny_model("qwen3").double(), DOCUMENT, "a ferry left", n=2)
    scores = scorer.score(DOCUMENT, ["a ferry left"])
    assert float(scores.score) == pytest.approx(expected.score, rel=1e-9, abs=0)
    assert float(scores.novel_score) == pytest.approx(expected.novel_score, rel=1e-9, abs=0)
    assert SquishScorer.from_pretrained(str(tiny_model_folder)).information(["x"])[0].dtype == torch.float32
