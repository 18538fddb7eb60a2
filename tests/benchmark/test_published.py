"""The published scores: all there, and marked."""

from __future__ import annotations

from squish_pl.benchmark.published import MARK, PublishedScore, published_scores


def test_all_are_there() -> None:
    scores = published_scores()
    assert len(scores) == 2 * 41 - 3  # three fields are empty
    assert len({(score.model, score.mode) for score in scores}) == 41
    assert {score.mode for score in scores} == {"reasoning", "instruct"}
    by_budget = {budget: [s.squish for s in scores if s.budget == budget] for budget in ("5%", "10%")}
    assert {budget: len(values) for budget, values in by_budget.items()} == {"5%": 40, "10%": 39}
    assert (min(by_budget["5%"]), max(by_budget["5%"])) == (0.014, 0.024)
    assert (min(by_budget["10%"]), max(by_budget["10%"])) == (0.016, 0.042)


def test_values_and_gaps() -> None:
    scores = published_scores()
    assert scores[:2] == [
        PublishedScore("Claude 4.5 Sonnet", "reasoning", "5%", 0.024),
        PublishedScore("Claude 4.5 Sonnet", "reasoning", "10%", 0.042),
    ]
    budgets = {
        m: [s.budget for s in scores if (s.model, s.mode) == (m, "instruct")] for m in ("Grok 4 Fast", "GPT-4.1")
    }
    assert budgets == {"Grok 4 Fast": ["5%"], "GPT-4.1": ["5%", "10%"]}
    assert [s.budget for s in scores if s.model == "Mistral Medium 3.1"] == ["10%"]


def test_every_one_is_marked() -> None:
    assert MARK == "measured elsewhere, under another template"
