"""Figures of a validation by hand, with and without an audit."""

import dataclasses
import math

import pytest
import torch
from groups import make_group, make_scores
from tiny import make_byte_tokenizer

from squish_pl.lm.loading import BaseModel
from squish_pl.rl.validation import (
    Validated,
    ValidationSettings,
    Validator,
    budgets_of,
    estimate_of,
    key_problems,
    keys_of,
    monitored_key,
    summarise,
)
from squish_pl.score.bootstrap import bootstrap_interval
from squish_pl.score.measures.base import Measure
from squish_pl.score.measures.copies import Novel
from squish_pl.score.measures.savings import Clipped, Squish
from squish_pl.score.measures.support import Support
from squish_pl.score.scorer import Scorer
from squish_pl.types import Finish

SCORES = {"squish": 0.05, "novel": 0.02, "lead": 0.1, "lead_novel": -0.01}
NO_AIM = ("length_used", "copied")  # nobody is better for more of them
LINE = Validated("one", "Opening", "10%", "A summary.", "closed", True, 0.5, 0.25, SCORES)


class Said(Scorer):
    """Scores that are given, and what was asked."""

    tokenizer, novel_ngram = make_byte_tokenizer(), 4

    def __init__(self, *answers, measures=()):
        self.answers, self.asked, self.measures = list(answers), [], measures

    def score_batch(self, requests, skip_over_budget=True):
        self.asked.append([(list(r.summaries), None if r.budget is None else str(r.budget)) for r in requests])
        return self.answers.pop(0) if requests else []

    def information(self, texts):
        raise NotImplementedError

    def take_tokens(self):
        return 0


def changed(line, scores=None, **fields):
    return dataclasses.replace(line, scores=SCORES | (scores or {}), **fields)


def test_length_used_is_that_of_valid_summaries_and_copied_of_those_there_are():
    nan = float("nan")
    lines = [
        changed(LINE, length_used=0.4, copied=0.5),
        changed(LINE, document_id="two", length_used=1.5, copied=0.25, within_budget=False),
        changed(LINE, document_id="three", summary=None, length_used=nan, copied=nan, within_budget=False),
        changed(LINE, budget="20%", length_used=0.8, copied=0.0),
        changed(LINE, budget="30%", summary=None, length_used=nan, copied=nan, within_budget=False),
    ]
    figures = summarise(lines, Said())
    assert (figures["val/length_used@10%"], figures["val/length_used@20%"]) == (0.4, 0.8)
    assert figures["val/length_used"] == pytest.approx(0.6)
    assert (figures["val/copied@10%"], figures["val/copied"]) == (0.375, 0.25)
    assert "val/length_used@30%" not in figures
    assert "val/copied@30%" not in figures


def test_means_over_documents_then_budgets():
    lines = [
        LINE,
        changed(LINE, {"squish": 0.0, "novel": 0.0}, document_id="two", summary=None, within_budget=False),
        changed(LINE, {"squish": 0.2, "novel": 0.1, "lead": 0.3, "lead_novel": 0.0}, budget="20%"),
    ]
    figures = summarise(lines, Said())
    assert figures["val/squish@10%"] == pytest.approx(0.025)
    assert figures["val/squish@20%"] == pytest.approx(0.2)
    assert figures["val/squish"] == pytest.approx((0.025 + 0.2) / 2)
    assert figures["val/novel"] == pytest.approx((0.01 + 0.1) / 2)
    assert figures["val/lead@10%"] == pytest.approx(0.1)
    assert figures["val/lead_novel"] == pytest.approx((-0.01 + 0.0) / 2)
    assert figures["val/parsed"] == pytest.approx(2 / 3)
    assert figures["val/within_budget"] == pytest.approx(2 / 3)
    assert (figures["val/parsed@10%"], figures["val/within_budget@10%"], figures["val/parsed@20%"]) == (0.5, 0.5, 1)
    assert budgets_of(figures) == ["10%", "20%"]
    low, high = bootstrap_interval(torch.tensor([0.05, 0.0], dtype=torch.float64))
    assert (figures["val/squish_low@10%"], figures["val/squish_high@10%"]) == (low, high)
    assert estimate_of(figures, "squish", "10%") == (pytest.approx(0.025), low, high)


def test_figures_of_each_source():
    nan = math.nan
    news = [
        changed(LINE, {"squish": 0.1}, source="news", length_used=0.5),
        changed(LINE, {"squish": 0.4}, document_id="two", source="news", within_budget=False, length_used=1.5),
        changed(LINE, {"squish": 0.2}, budget="5%", source="news", summary=None, copied=nan, within_budget=False),
    ]
    chats = [changed(LINE, {"squish": 0.7}, document_id="three", source="chats", copied=0.75)]
    figures = summarise([*news, *chats], Said())
    own = {key: value for key, value in figures.items() if key.startswith("val/source/")}
    assert own == pytest.approx(
        {
            "val/source/news/squish@10%": 0.25, "val/source/news/squish@5%": 0.2, "val/source/news/squish": 0.225,
            "val/source/news/novel@10%": 0.02, "val/source/news/novel@5%": 0.02, "val/source/news/novel": 0.02,
            "val/source/news/parsed@10%": 1, "val/source/news/parsed@5%": 0, "val/source/news/parsed": 2 / 3,
            "val/source/news/within_budget@10%": 0.5, "val/source/news/within_budget@5%": 0,
            "val/source/news/within_budget": 1 / 3,
            "val/source/news/length_used@10%": 0.5, "val/source/news/length_used": 0.5,
            "val/source/news/copied@10%": 0.25, "val/source/news/copied": 0.25,
            "val/source/chats/squish@10%": 0.7, "val/source/chats/squish": 0.7,
            "val/source/chats/novel@10%": 0.02, "val/source/chats/novel": 0.02,
            "val/source/chats/parsed@10%": 1, "val/source/chats/parsed": 1,
            "val/source/chats/within_budget@10%": 1, "val/source/chats/within_budget": 1,
            "val/source/chats/length_used@10%": 0.5, "val/source/chats/length_used": 0.5,
            "val/source/chats/copied@10%": 0.75, "val/source/chats/copied": 0.75,
        }
    )  # fmt: skip
    without = summarise([dataclasses.replace(line, source="") for line in [*news, *chats]], Said())
    assert figures == without | own  # the others are as before
    assert (keys_of(figures), budgets_of(figures)) == (keys_of(without), budgets_of(without))


def test_a_single_document_has_no_interval():
    figures = summarise([LINE], Said())
    assert not [key for key in figures if "_low" in key or "_high" in key]
    found = estimate_of(figures, "squish", "10%")
    assert found.mean == 0.05
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert summarise([], Said()) == {}


def groups():
    return [
        make_group([1], summaries=["short"]),
        make_group([1], summaries=["far too long"], finish=[Finish.OUTGROWN]),
        make_group([1], summaries=[None], finish=[Finish.CAPPED]),
        make_group([1], summaries=[""]),
    ]


def test_lines_of_a_validation():
    own = [
        make_scores([0.3], novel=[0.1]),
        make_scores([0.0], within=[False]),
        make_scores([0.0], within=[False]),
        make_scores([0.0]),
    ]
    scorer = Said(own, [make_scores([0.2], novel=[-0.01])])
    validator = Validator(scorer)
    validator.start()
    validator.add(groups())
    # all four ask for the same document under the same budget: its opening is scored once
    assert scorer.asked[1] == [(["d"], "9 chars")]
    assert [line.within_budget for line in validator.lines] == [True, False, False, False]
    assert [line.finish for line in validator.lines] == ["closed", "outgrown", "capped", "closed"]
    assert validator.lines[0].scores == {"squish": 0.3, "novel": 0.1, "lead": 0.2, "lead_novel": -0.01}
    figures = validator.finish()
    assert figures["val/squish"] == pytest.approx(0.3 / 4)
    assert figures["val/lead"] == pytest.approx(0.2)
    assert figures["val/parsed"] == 0.75
    assert figures["val/within_budget"] == 0.25
    validator.start()
    assert validator.lines == []


def test_an_audit_measures_what_the_reference_lets_count():
    own = [make_scores([0.3]), make_scores([0.0], within=[False])]
    scorer = Said(own, [make_scores([0.2])])
    audit = Said([make_scores([0.7], novel=[0.4]), make_scores([0.0], within=[False])])
    validator = Validator(scorer, audit)
    validator.start()
    validator.add(groups()[:2])
    # without a budget, since the reference has counted, and without what it found too long
    assert audit.asked == [[(["short"], None), ([None], None)]]
    figures = validator.finish()
    assert figures["val/audit_squish@9 chars"] == pytest.approx(0.35)
    assert figures["val/audit_novel"] == pytest.approx(0.2)
    assert figures["val/squish"] == pytest.approx(0.15)


MEASURES = (Novel(2), Support())
NAN = math.nan


def test_measures_are_validated_like_the_scores():
    own = [
        make_scores([0.3], novel_2=[0.2], support=[-1.0]),
        make_scores([0.0], within=[False], novel_2=[0.0], support=[NAN]),
        make_scores([0.0], within=[False], novel_2=[0.0], support=[NAN]),
        make_scores([0.0], novel_2=[0.0], support=[NAN]),
    ]
    scorer = Said(own, [make_scores([0.2], novel_2=[-0.4], support=[-5.0])], measures=MEASURES)
    audit = Said(
        [make_scores([0.1], novel_2=[0.8], support=[-2.0])] + [make_scores([0], novel_2=[0], support=[NAN])] * 3
    )
    validator = Validator(scorer, audit)
    validator.start()
    validator.add(groups())
    keys = ["squish", "novel", "novel_2", "support"]
    assert list(validator.lines[0].scores) == [
        *keys,
        *("lead", "lead_novel", "lead_novel_2", "lead_support"),
        *(f"audit_{key}" for key in keys),
    ]
    figures = validator.finish()
    assert figures["val/novel_2@9 chars"] == figures["val/novel_2"] == pytest.approx(0.2 / 4)
    assert figures["val/lead_novel_2"] == pytest.approx(-0.4)
    assert figures["val/audit_novel_2"] == pytest.approx(0.8 / 4)
    low, high = bootstrap_interval(torch.tensor([0.2, 0.0, 0.0, 0.0], dtype=torch.float64))
    assert estimate_of(figures, "novel_2", "9 chars") == (pytest.approx(0.05), low, high)
    # without a zero: of the one summary that counts, which tells no interval
    assert figures["val/support@9 chars"] == figures["val/support"] == -1.0
    assert figures["val/audit_support"] == -2.0
    assert figures["val/lead_support"] == -5.0
    assert not [key for key in figures if key.startswith("val/support_")]
    assert keys_of(figures) == keys


def test_a_measure_without_a_zero_has_a_mean_where_every_budget_has_one():
    lines = [changed(LINE, {"support": -1.0}), changed(LINE, {"support": NAN}, budget="20%")]
    figures = summarise(lines, Said(measures=MEASURES))
    assert figures["val/support@10%"] == -1.0
    assert "val/support@20%" not in figures
    assert "val/support" not in figures
    assert math.isnan(estimate_of(figures, "support", "20%").mean)
    # a value that must be there is missed, not left out
    assert math.isnan(summarise([changed(LINE, {"novel": NAN})], Said(measures=MEASURES))["val/novel"])


class Named(Measure):
    def __init__(self, name):
        self._name = name

    @property
    def name(self):
        return self._name

    def __call__(self, evidence, batch):
        raise NotImplementedError


def test_measures_that_would_be_other_figures_are_told():
    assert key_problems([*MEASURES, Clipped()]) == []
    (problem,) = key_problems([Squish(), Support()])
    assert problem == (
        "measures: 'squish' would be val/squish, a name of other figures: leave it out, it is measured anyway"
    )
    for name in ("novel", "lead", "lead novel", "audit squish", "squish low", "a_high", "parsed", "within budget", "+"):
        (problem,) = key_problems([Named(name)])
        assert "a name of other figures: give it another name" in problem
    assert key_problems([Named("a b"), Named("a+b"), Named("a")]) == [
        "measures: 2 would be val/a_b: give each a name of its own"
    ]


@pytest.mark.parametrize(
    ("figure", "key"),
    [
        ("val/squish", "squish"),
        ("val/lead@5%", "squish"),
        ("val/audit_novel_2@20 tokens", "novel_2"),
        ("val/lead_novel", "novel"),
        ("val/parsed", "parsed"),
    ],
)
def test_the_key_that_a_figure_is_of(figure, key):
    assert monitored_key(figure) == key


def test_the_best_can_be_chosen_by_any_measure_with_a_zero():
    settings = ValidationSettings(budgets=["9 chars"], audit=BaseModel("a/b"))
    scores = {"novel_2": 0.1, "lead_novel_2": 0.0, "support": -1.0, "lead_support": -2.0}
    scores |= {f"audit_{key}": 0.0 for key in ("squish", "novel", "novel_2", "support")}
    figures = summarise([changed(LINE, scores, budget="9 chars")], Said(measures=MEASURES))
    names = settings.figure_names(MEASURES)
    assert len(names) == len(set(names))
    assert set(names) == {key for key in figures if not any(word in key for word in ("support", *NO_AIM))}
    assert "val/audit_novel_2@9 chars" in names


def test_figures_that_the_best_can_be_chosen_by_are_those_there_are():
    plain = ValidationSettings(budgets=["9 chars"])
    with_audit = dataclasses.replace(plain, audit=BaseModel("a/b"))
    assert (plain.monitored(), with_audit.monitored()) == ("val/squish", "val/audit_squish")
    line = changed(LINE, {"audit_squish": 0.1, "audit_novel": 0.0}, budget="9 chars")
    for settings, one in ((plain, changed(LINE, budget="9 chars")), (with_audit, line)):
        found = set(summarise([one], Said()))
        assert set(settings.figure_names()) == {key for key in found if not any(word in key for word in NO_AIM)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budgets": []}, "validation.budgets must name at least one"),
        ({"budgets": ["0%"]}, "validation.budgets: expected a budget above zero"),
        ({"temperature": -1.0}, "validation.temperature"),
        ({"audit": BaseModel("/no/such/folder")}, "validation.audit: base: "),
    ],
)
def test_settings_that_are_none(settings, words):
    (problem,) = ValidationSettings(**settings).problems()
    assert problem.startswith(words)
