"""What all integrations share: completions are read, grouped, scored once and given the project's values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.errors import BudgetError, ConfigError, DataError, SquishError
from squish_pl.integrations.grader import SquishGrader
from squish_pl.integrations.reward import SummaryReward, shared_reward
from squish_pl.integrations.trl import SquishReward
from squish_pl.score.measures.candidates import default_measures
from squish_pl.score.measures.copies import Novel
from squish_pl.score.measures.fair import Fair
from squish_pl.score.measures.savings import Contrast
from squish_pl.score.measures.support import Support
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer

DOCUMENT = "Ada Lovelace wrote notes on an engine that was never built. " * 3
OTHER = "The bridge at Harrowmere opens again on the first of July, toll-free. " * 3


class CountingScorer(SquishScorer):
    """Notes what it was asked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[list[tuple[str, list[str]]]] = []

    def evidence(self, requests: Sequence[ScoreRequest], *args: Any, **kwargs: Any) -> Any:
        self.asked.append([(str(request.document), sorted(map(str, request.summaries))) for request in requests])
        return super().evidence(requests, *args, **kwargs)


@pytest.fixture
def scorer() -> CountingScorer:
    return CountingScorer(FrozenModel(make_tiny_model()), make_byte_tokenizer())


@pytest.mark.parametrize("measure", [m for m in default_measures() if m.has_zero], ids=lambda m: m.name)
def test_values_are_the_scorers_own(measure: Any, scorer: CountingScorer) -> None:
    texts, budgets = ["Ada wrote notes.", "an engine"], ["20%", "9 chars"]
    plain = SquishScorer(scorer.reference, scorer.tokenizer, measures=[measure])
    expected = [
        float(plain.score(DOCUMENT, [text], budget).measures[measure.name])
        for text, budget in zip(texts, budgets, strict=True)
    ]
    graded = SummaryReward(measure, scorer=scorer).grade([DOCUMENT] * 2, [f"{t}</summary>" for t in texts], budgets)
    assert [one.reward for one in graded] == pytest.approx(expected, abs=1e-6)
    assert all(one.valid for one in graded)
    assert expected[0] != expected[1]


@pytest.mark.parametrize(
    ("completion", "summary"),
    [
        ("Ada wrote.</summary> and more", "Ada wrote."),
        ("Here it is: <summary> Ada wrote.\n</summary>", "Ada wrote."),
        ("<think>Hm, <summary>no</summary>?</think><summary>Ada wrote.</summary>", "Ada wrote."),
        ([{"role": "assistant", "content": "<summary>Ada wrote.</summary>"}], "Ada wrote."),
        ([{"role": "user", "content": "x</summary>"}, {"role": "assistant", "content": "Ada</summary>"}], "Ada"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "Ada"}, {"text": "</summary>"}]}], "Ada"),
        ("</summary>", ""),
        ("Ada wrote.", None),
        ([{"role": "assistant", "content": None}], None),
        ([], None),
    ],
)
def test_where_the_summary_is(completion: Any, summary: str | None, scorer: CountingScorer) -> None:
    assert SummaryReward(scorer=scorer).summary(completion) == summary


def test_a_summary_is_scored_once(scorer: CountingScorer) -> None:
    reward = SummaryReward(scorer=scorer)
    first = reward.grade([DOCUMENT, OTHER, DOCUMENT], ["Ada</summary>", "Ada</summary>", "<summary>Ada </summary>"])
    assert scorer.asked == [[(DOCUMENT, ["Ada"]), (OTHER, ["Ada"])]]
    assert first[0] == first[2] != first[1]
    again = reward.grade([DOCUMENT, DOCUMENT], ["Ada</summary>", "Babbage</summary>"])
    assert scorer.asked[1:] == [[(DOCUMENT, ["Babbage"])]]
    assert again[0] == first[0]
    reward.grade([DOCUMENT], ["Ada</summary>"], ["20%"])
    assert len(scorer.asked) == 3  # another budget is another question
    assert reward.grade([], []) == []


def test_the_values_of_invalid_summaries(scorer: CountingScorer) -> None:
    completions = ["Ada</summary>", "never closed", "</summary>", "x" * 500 + "</summary>", "engine</summary>"]
    rows = [DOCUMENT] * 5
    by_benchmark = SummaryReward(scorer=scorer).grade(rows, completions)
    assert [one.valid for one in by_benchmark] == [True, False, False, False, True]
    assert [one.reward for one in by_benchmark[1:4]] == [0.0, 0.0, 0.0]
    worst = min(by_benchmark[0].reward, by_benchmark[4].reward)
    in_training = SummaryReward(scorer=scorer, invalid="below_worst").grade([*rows, OTHER], [*completions, "no"])
    assert [one.reward for one in in_training[1:4]] == pytest.approx([worst - 0.01] * 3)
    assert in_training[5].reward == 0.0  # nothing valid in its group
    assert scorer.asked[0] == [(DOCUMENT, ["Ada", "engine", "x" * 500])]


def test_a_measure_without_a_zero_needs_a_value_for_invalid_ones(scorer: CountingScorer) -> None:
    with pytest.raises(ConfigError, match="has no zero"):
        SummaryReward("support", scorer=scorer)
    valid, missing = SummaryReward("support", scorer=scorer, invalid=-9.0).grade([DOCUMENT] * 2, ["Ada</summary>", ""])
    assert missing.reward == -9.0
    assert -9.0 < valid.reward < 0


def test_measures_by_name(scorer: CountingScorer) -> None:
    assert repr(SummaryReward("Fair", scorer=scorer).measure) == repr(Fair())
    assert SummaryReward("novel", scorer=scorer).__name__ == "novel_4"
    assert SummaryReward(Novel(2), scorer=scorer).name == "novel_2"
    assert SummaryReward("squish", name="mine", scorer=scorer).__name__ == "mine"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": "rouge"}, "expected measure to be one of fair, squish, .*but got 'rouge'"),
        ({"measure": Contrast()}, "compares documents"),
        ({"measure": Novel(0)}, "n must be at least 1"),
        ({"measure": Support(), "invalid": 0}, "no zero"),
        ({"base": "./nowhere"}, "no folder './nowhere'"),
        ({"invalid": math.inf}, "earns must be"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SummaryReward(**{"base": "some/model", **settings})


def test_what_is_wrong_with_a_batch(scorer: CountingScorer) -> None:
    reward = SummaryReward(scorer=scorer)
    with pytest.raises(DataError, match="2 documents, 1 completions and 2 budgets"):
        reward.grade([DOCUMENT] * 2, ["Ada</summary>"])
    with pytest.raises(DataError, match="documents as text, but got NoneType"):
        reward.grade([None], ["Ada</summary>"])  # type: ignore[list-item]
    with pytest.raises(BudgetError, match="but got '10'"):
        reward.grade([DOCUMENT], ["Ada</summary>"], ["10"])
    with pytest.raises(DataError, match="column `document`"):
        SquishReward(scorer=scorer)(completions=["Ada</summary>"], prompts=["?"])


def test_the_request_names_the_limit(scorer: CountingScorer) -> None:
    (message,) = SummaryReward(scorer=scorer).messages(DOCUMENT, "5% tokens")  # a token is a byte here
    assert f"in at most {len(DOCUMENT) // 20} tokens" in message["content"]
    assert DOCUMENT in message["content"]
    (message,) = SummaryReward(base="some/model").messages(DOCUMENT)  # needs no reference, which is not there
    assert f"in at most {len(DOCUMENT) // 10} characters" in message["content"]


def test_the_reference_is_loaded_late_and_once(tiny_model_folder: Path) -> None:
    settings = {"base": str(tiny_model_folder), "device": "cpu"}
    one, other = SummaryReward("squish", **settings), SummaryReward("fair", **settings)
    assert one.scorer is other.scorer
    assert shared_reward(**settings) is shared_reward(**settings)
    absent = SummaryReward(base="some/model")
    with pytest.raises(SquishError, match="some/model"):
        absent.grade([DOCUMENT], ["Ada</summary>"])


def test_a_grader_of_samples_and_items(scorer: CountingScorer) -> None:
    grade = SquishGrader(scorer=scorer)
    text, item = "<summary>Ada</summary>", {"document": DOCUMENT, "budget": "20%"}
    assert grade({"output_text": text}, item) == float(scorer.score(DOCUMENT, ["Ada"], "20%").score)
    assert grade({"output_text": None}, item) == 0.0
    with pytest.raises(DataError, match="sample to hold 'output_text', but it has choices"):
        grade({"choices": []}, item)
    with pytest.raises(DataError, match="item to hold 'document', but it has nothing"):
        grade({"output_text": text}, {})
