"""What the page shows is what the scorer says; what it writes is what the policy writes, before and after."""

from __future__ import annotations

import math

import pytest
from transformers import AutoModelForCausalLM

from squish_pl.app.workbench import Workbench, WorkbenchSettings
from squish_pl.budget import Budget
from squish_pl.errors import SquishError
from squish_pl.score.measures.fair import Fair
from squish_pl.score.scorer import SquishScorer
from squish_pl.types import Document

TEXT = "The ferry left at dawn with 31 passengers. Snow fell on the pass all night 😀, and the road was shut."
SUMMARY = "A ferry left at dawn."


def test_scores_are_those_of_the_base_alone(bench: Workbench, settings: WorkbenchSettings) -> None:
    data = bench.score(TEXT, f"  {SUMMARY}\n", "30%", "You")
    scorer = SquishScorer.from_pretrained(settings.base.base, measures=[Fair()])  # which never saw the adapter
    scores = scorer.score(TEXT, [SUMMARY], "30%")
    [summary] = data["summaries"]
    assert summary["scores"]["squish"] == pytest.approx(float(scores.score[0]), abs=1e-6)
    assert summary["scores"]["novel"] == pytest.approx(float(scores.novel_score[0]), abs=1e-6)
    assert summary["scores"]["fair"] == pytest.approx(float(scores.measures["fair"][0]), abs=1e-6)
    assert data["information"] == pytest.approx(scores.information, rel=1e-6)
    assert summary["saved"] == pytest.approx(float(scores.saved[0]), rel=1e-5)
    assert sum(summary["by_sentence"]) == pytest.approx(float(scores.saved[0]), rel=1e-5)
    assert (summary["contender"], summary["text"], summary["verdict"]) == ("You", SUMMARY, "")
    assert summary["length"] == pytest.approx(len(SUMMARY) / math.floor(0.3 * len(TEXT)))
    assert data["text"] == TEXT
    assert data["ends"][-1] == len(TEXT)
    assert len(data["sentences"]) == 2
    assert len(summary["spans"]) == len(summary["copies"]) == len(data["ends"])
    copied = "".join(
        TEXT[start:end]
        for start, end, flag in zip([0, *data["ends"]], data["ends"], summary["copies"], strict=False)
        if flag == "1"
    )
    assert copied == " ferry left at dawn"


def test_over_the_budget_it_scores_nothing_and_is_measured(bench: Workbench) -> None:
    data = bench.score(TEXT, SUMMARY, "5 chars")
    [summary] = data["summaries"]
    assert summary["scores"]["squish"] == 0
    assert summary["verdict"] == "over the budget of 5 characters"
    assert summary["spans"] == bench.score(TEXT, SUMMARY, "50%")["summaries"][0]["spans"]


def test_it_writes_with_and_without_the_adapter(bench: Workbench, settings: WorkbenchSettings) -> None:
    before, after = (bench.write(TEXT, "30 chars", adapted)["text"] for adapted in (False, True))
    assert before != after
    asked = settings.prompt.build(Document(TEXT), Budget.parse("30 chars"), bench.tokenizer)
    import torch

    model = AutoModelForCausalLM.from_pretrained(settings.base.base)
    ids = torch.tensor([asked.token_ids])
    free = bench.tokenizer.decode(model.generate(ids, do_sample=False, max_new_tokens=30)[0, ids.shape[1] :])
    assert free.partition("H")[0].strip().startswith(before.rstrip("\ufffd")[:20])
    assert bench.write(TEXT, "30 chars", False)["text"] == before  # the adapter came off and on again


@pytest.mark.parametrize(
    ("document", "summary", "budget", "words"),
    [
        (" \n", SUMMARY, "10%", "The document is empty"),
        (TEXT, " ", "10%", "The summary is empty"),
        ("x" * 1001, SUMMARY, "10%", "has 1,001 tokens, and this page takes 1,000"),
        (TEXT, SUMMARY, "ten", "expected a budget such as"),
        (TEXT, SUMMARY, "", "expected a budget such as"),
        (TEXT, SUMMARY, "0%", "above zero"),
    ],
)
def test_wrong_input_is_a_sentence(bench: Workbench, document: str, summary: str, budget: str, words: str) -> None:
    with pytest.raises(SquishError, match=words):
        bench.score(document, summary, budget)
    if summary.strip():
        with pytest.raises(SquishError, match=words):
            bench.write(document, budget, True)
