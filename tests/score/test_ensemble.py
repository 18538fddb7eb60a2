"""Several references behind one scorer: what is combined, what is the first one's, and where models lie meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from score_brute_force import FRAME, slow_squish
from tiny import make_byte_tokenizer, make_tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from squish_pl.lm.loading import BaseModel
from squish_pl.score.ensemble import EnsembleScorer, ReferenceSettings, Rule, combine, load_scorer, within_budget
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Scores

DOCUMENT = "the ferry left before dawn, and nobody on the quay saw who steered it"  # 69 characters, 69 tokens
OTHER = "snow fell on the pass all night"
SUMMARIES = ["a ferry left", None, "nobody saw who steered it", "", "x" * 40]  # the last is over every budget here
REQUESTS = [ScoreRequest(DOCUMENT, SUMMARIES, "50%"), ScoreRequest(OTHER, ["snow", None], "20 chars")]
CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")


def first_model() -> PreTrainedModel:
    return make_tiny_model("qwen3", torch.float64, seed=0)


def second_model() -> PreTrainedModel:
    return make_tiny_model("llama", torch.float64, seed=5)


def scorer_of(reference: FrozenModel, tokenizer: PreTrainedTokenizerFast | None = None) -> SquishScorer:
    """Every row in a pass of its own, so that equal rows give equal bits."""
    return SquishScorer(reference, tokenizer or make_byte_tokenizer(), batch_tokens=1)


def make_scorers() -> list[SquishScorer]:
    return [scorer_of(FrozenModel(first_model())), scorer_of(FrozenModel(second_model()))]


@pytest.mark.parametrize("rule", ["mean", "min"])
def test_scores_are_combined_and_the_rest_is_the_first_references(rule: Rule) -> None:
    singles = [scorer.score_batch(REQUESTS) for scorer in make_scorers()]
    together = EnsembleScorer(make_scorers(), rule).score_batch(REQUESTS)
    for request, scores, one, other in zip(REQUESTS, together, *singles, strict=True):
        for name in ("score", "novel_score"):
            a, b = getattr(one, name).tolist(), getattr(other, name).tolist()
            expected = [(x + y) / 2 if rule == "mean" else min(x, y) for x, y in zip(a, b, strict=True)]
            assert getattr(scores, name).tolist() == expected
            assert a[0] != b[0]
        assert scores.information == one.information != other.information
        assert torch.equal(scores.within_budget, one.within_budget)
        for name in ("saved", "token_saved"):
            assert torch.equal(getattr(scores, name).nan_to_num(7.0), getattr(one, name).nan_to_num(7.0))
        nothing = [i for i, s in enumerate(request.summaries) if not s or len(s) > 34]
        assert scores.score[nothing].tolist() == scores.novel_score[nothing].tolist() == [0.0] * len(nothing)
    # the rules differ, and either reference is the stricter one somewhere
    first, second = (torch.cat([s.score for s in single]) for single in singles)
    assert (first < second).any()
    assert (first > second).any()


def test_the_mean_is_that_of_slow_scores() -> None:
    (scores,) = EnsembleScorer(make_scorers(), "mean").score_batch([ScoreRequest(DOCUMENT, ["a ferry left"])])
    slow = [slow_squish(model, DOCUMENT, "a ferry left") for model in (first_model(), second_model())]
    assert float(scores.score) == pytest.approx(sum(s.score for s in slow) / 2, rel=1e-9, abs=0)
    assert float(scores.novel_score) == pytest.approx(sum(s.novel_score for s in slow) / 2, rel=1e-9, abs=0)


def test_what_is_over_budget_may_be_measured_and_still_scores_0() -> None:
    ensemble, (first, _) = EnsembleScorer(make_scorers(), "mean"), make_scorers()
    (scores,) = ensemble.score_batch(REQUESTS[:1], skip_over_budget=False)
    (alone,) = first.score_batch(REQUESTS[:1], skip_over_budget=False)
    assert torch.equal(scores.saved, alone.saved)
    assert scores.saved[4] != 0
    assert scores.score[4] == scores.novel_score[4] == 0


def make_pairs_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, but for two of the letter a, which are one together."""
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE(vocab={sign: i for i, sign in enumerate([*signs, "aa"])}, merges=[("a", "a")])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def test_budgets_in_tokens_are_counted_by_the_first_tokenizer() -> None:
    bytes_first = [
        scorer_of(FrozenModel(first_model())),
        scorer_of(FrozenModel(second_model()), make_pairs_tokenizer()),
    ]
    for scorers, allowed in ((bytes_first, [True, False, False]), (bytes_first[::-1], [True, True, False])):
        ensemble = EnsembleScorer(scorers, "mean")
        assert ensemble.tokenizer is scorers[0].tokenizer
        # 6, 7 and 13 tokens; in pairs 3, 4 and 7
        scores = ensemble.score(DOCUMENT, ["a" * 6, "a" * 7, "a" * 13], "6 tokens")
        assert scores.within_budget.tolist() == allowed
        assert (scores.score != 0).tolist() == allowed
        free = [scorer.score(DOCUMENT, ["a" * 6, "a" * 7]).score for scorer in scorers]
        assert torch.equal(scores.score[:2], ((free[0] + free[1]) / 2) * torch.tensor(allowed[:2]))


def test_information_is_the_first_references() -> None:
    scorers = make_scorers()
    ensemble = EnsembleScorer(scorers, "min")
    expected = make_scorers()[0].information([DOCUMENT, OTHER])
    for got, wanted in zip(ensemble.information([DOCUMENT, OTHER]), expected, strict=True):
        assert torch.equal(got, wanted)
    assert scorers[1].take_tokens() == 0


def test_tokens_of_all_references_are_counted() -> None:
    ensemble = EnsembleScorer(make_scorers(), "mean")
    frame = len(FRAME.replace("{summary}", ""))
    ensemble.score(DOCUMENT, ["a ferry", None, "x" * 40], "50%")
    # the document alone, and with the one summary that is there and short enough; a row's last token is not read
    assert ensemble.take_tokens() == 2 * (69 + 1 + frame + len("a ferry") + 69 - 1)
    assert ensemble.take_tokens() == 0


class Traveller(FrozenModel):
    """Lies where it was last sent to, or says so; and tells where it was while it measured."""

    def __init__(self, model: PreTrainedModel, home: torch.device) -> None:
        super().__init__(model)
        self.at, self.moves, self.measured_at = home, [], set()

    @property
    def device(self) -> torch.device:
        return self.at

    def to(self, device: torch.device) -> None:
        self.at = device
        self.moves.append(device)

    def hidden(self, input_ids: Tensor) -> Tensor:
        self.measured_at.add(self.at)
        return super().hidden(input_ids)


def test_a_reference_is_brought_to_the_device_and_home_again() -> None:
    there, away = Traveller(first_model(), CPU), Traveller(second_model(), ELSEWHERE)
    ensemble = EnsembleScorer([scorer_of(there), scorer_of(away)], "mean", CPU)
    scores = ensemble.score_batch(REQUESTS)
    assert there.moves == []
    assert away.moves == [CPU, ELSEWHERE]
    assert away.measured_at == {CPU}
    for got, wanted in zip(scores, EnsembleScorer(make_scorers(), "mean").score_batch(REQUESTS), strict=True):
        assert torch.equal(got.score, wanted.score)
    ensemble.information(["quite another text"])
    assert away.moves == [CPU, ELSEWHERE]  # it has no part in this
    first_away = EnsembleScorer([scorer_of(Traveller(first_model(), ELSEWHERE))], "mean", CPU)
    first_away.information([DOCUMENT])
    assert first_away.scorers[0].reference.moves == [CPU, ELSEWHERE]


def test_a_reference_goes_home_after_an_error_too() -> None:
    away = Traveller(make_tiny_model("llama", context=40), ELSEWHERE)
    with pytest.raises(Exception, match="at most 40"):
        EnsembleScorer([scorer_of(FrozenModel(first_model())), scorer_of(away)], "mean", CPU).score_batch(REQUESTS)
    assert away.moves == [CPU, ELSEWHERE]


def test_without_a_device_nothing_moves() -> None:
    travellers = [Traveller(first_model(), CPU), Traveller(second_model(), CPU)]
    EnsembleScorer([scorer_of(t) for t in travellers], "mean").score_batch(REQUESTS)
    assert [t.moves for t in travellers] == [[], []]


def test_an_ensemble_has_scorers() -> None:
    with pytest.raises(ValueError, match="at least one"):
        EnsembleScorer([], "mean")


def test_combine_by_hand() -> None:
    scores = torch.tensor([[[1.0, -2.0]], [[3.0, 0.0]], [[-1.0, 8.0]]])
    assert combine(scores, "mean").tolist() == [[1.0, 2.0]]
    assert combine(scores, "min").tolist() == [[-1.0, -2.0]]
    assert combine(scores[:1], "min").tolist() == combine(scores[:1], "mean").tolist() == [[1.0, -2.0]]


def test_another_reference_gets_what_the_first_found_short_enough() -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    scores = Scores(zeros, zeros, zeros, 1.0, torch.tensor([True, False, False]), torch.zeros(3, 1))
    (left,) = within_budget([ScoreRequest(DOCUMENT, ["a", "b", None], "1 char")], [scores])
    assert left == ScoreRequest(DOCUMENT, ["a", None, None], None)


class TestSettings:
    def test_problems_name_their_place(self) -> None:
        settings = ReferenceSettings(others=[BaseModel(" "), BaseModel("some/hub-id"), BaseModel("/no/such/folder")])
        empty, nowhere = settings.problems()
        assert empty.startswith("reference.others: base must name a base model")
        assert nowhere.startswith("reference.others: base: expected a model folder or hub id")
        assert "/no/such/folder" in nowhere
        assert ReferenceSettings().problems() == []

    def test_one_reference_is_no_ensemble(self) -> None:
        first = make_scorers()[0]
        assert ReferenceSettings().scorer(first, ScoreSettings(), CPU) is first

    @pytest.mark.parametrize("offload", [False, True])
    def test_others_are_loaded_and_measure_beside_the_first(self, offload: bool, tiny_llama_folder: Path) -> None:
        first, settings = make_scorers()[0], ScoreSettings(novel_ngram=2, batch_tokens=1)
        model = BaseModel(str(tiny_llama_folder), dtype="float64")
        ensemble = ReferenceSettings([model], "min", offload).scorer(first, settings, CPU)
        assert isinstance(ensemble, EnsembleScorer)
        assert ensemble.scorers[0] is first
        assert ensemble.rule == "min"
        assert (ensemble.scorers[1].novel_ngram, ensemble.scorers[1].batch_tokens) == (2, 1)
        expected = SquishScorer.from_pretrained(str(tiny_llama_folder), dtype="float64", batch_tokens=1)
        wanted = torch.minimum(first.score(DOCUMENT, ["a ferry"]).score, expected.score(DOCUMENT, ["a ferry"]).score)
        assert torch.equal(ensemble.score(DOCUMENT, ["a ferry"]).score, wanted)

    def test_a_loaded_scorer_follows_the_settings(self, tiny_llama_folder: Path) -> None:
        template = ScoreTemplate(frame="<<{summary}>>", start_token="</s>")
        scorer = load_scorer(BaseModel(str(tiny_llama_folder)), ScoreSettings(template, 3, 99), "cpu")
        assert (scorer.template, scorer.novel_ngram, scorer.batch_tokens) == (template, 3, 99)
        assert scorer.start == 257
        assert scorer.information(["x"])[0].dtype == torch.float32
