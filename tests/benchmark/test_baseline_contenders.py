"""Baselines: what they write, that it fits every kind of budget, and that it is the same in every run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny import make_byte_tokenizer
from transformers import PreTrainedTokenizerFast

from squish_pl.benchmark.contenders.baselines import (
    Baseline,
    BestSentences,
    Highlights,
    Opening,
    RandomSentences,
    split_sentences,
)
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.score import Budget
from squish_pl.score.baselines import lead
from squish_pl.types import Document

# TextRank's graph of the first four is a star: the third shares words with each other one, they share none
STAR = (
    "Harbour gates opened early. Fishermen mended torn nets. The harbour fishermen watched the lighthouse blink. "
    "A lighthouse stood far away.\nNobody slept."
)
STAR_SENTENCES = [
    "Harbour gates opened early.",
    "Fishermen mended torn nets.",
    "The harbour fishermen watched the lighthouse blink.",
    "A lighthouse stood far away.",
    "Nobody slept.",
]
BUDGETS = ["1%", "10%", "50%", "100%", "1 char", "60 chars", "10% tokens", "70 tokens"]


def answer(contender: Baseline | Highlights, text: str = STAR, budget: str = "50%", sample: int = 0) -> Answer:
    task = Task(Document(text), budget, sample)
    ((answered, given),) = contender.summarise([task])
    assert answered is task
    return given


def summary(contender: Baseline, text: str = STAR, budget: str = "50%", sample: int = 0) -> str:
    given = answer(contender, text, budget, sample)
    assert given.outcome is Outcome.WRITTEN
    assert given.summary is not None
    return given.summary


def all_of(tokenizer: PreTrainedTokenizerFast) -> list[Baseline]:
    return [
        Opening("opening", tokenizer),
        Opening("opening 70%", tokenizer, 0.7),
        BestSentences("best", tokenizer),
        RandomSentences("random", tokenizer),
    ]


@pytest.mark.parametrize("budget", BUDGETS)
def test_all_fit_every_budget(byte_tokenizer: PreTrainedTokenizerFast, budget: str) -> None:
    for contender in all_of(byte_tokenizer):
        assert contender.is_baseline
        assert contender.problems() == []
        text = summary(contender, budget=budget)
        assert Budget.parse(budget).allows(text, STAR, byte_tokenizer)
        assert text == text.strip()


@pytest.mark.parametrize("text", ["", " \n", "word", "…", "東京は首都です。人口は多い。", "a. b. c."])
def test_odd_documents_end_no_run(byte_tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    for contender in all_of(byte_tokenizer):
        for budget in BUDGETS:
            assert answer(contender, text, budget).outcome is Outcome.WRITTEN


def test_the_opening_is_the_lead(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    for budget in BUDGETS:
        assert summary(Opening("o", byte_tokenizer), budget=budget) == lead(STAR, Budget.parse(budget), byte_tokenizer)


@pytest.mark.parametrize(
    ("budget", "length"), [("10%", 7), ("10 chars", 7), ("10 tokens", 7), ("10% tokens", 7), ("11 chars", 7)]
)
def test_seventy_percent_of_the_budget(byte_tokenizer: PreTrainedTokenizerFast, budget: str, length: int) -> None:
    assert summary(Opening("o", byte_tokenizer, 0.7), "x" * 100, budget) == "x" * length


@pytest.mark.parametrize("share", [0, 1.1])
def test_a_share_out_of_range(byte_tokenizer: PreTrainedTokenizerFast, share: float) -> None:
    (problem,) = Opening("o", byte_tokenizer, share).problems()
    assert problem.startswith("o: share must be above 0 and at most 1, but is ")


def test_the_best_sentence_is_the_central_one(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    best = BestSentences("best", byte_tokenizer)
    assert best.rank(STAR_SENTENCES, Task(Document(STAR), "50%"))[0] == 2
    assert summary(best, budget=f"{len(STAR_SENTENCES[2])} chars") == STAR_SENTENCES[2]


def test_sentences_come_in_order_and_fill_the_budget(
    byte_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = BestSentences("best", byte_tokenizer)
    monkeypatch.setattr(best, "rank", lambda sentences, task: [2, 1, 4, 0, 3])
    # 51 + 1 + 13 characters: the second-best, of 27, is passed over
    assert summary(best, budget="70 chars") == f"{STAR_SENTENCES[2]} {STAR_SENTENCES[4]}"
    assert summary(best, budget="79 chars") == f"{STAR_SENTENCES[1]} {STAR_SENTENCES[2]}"
    assert summary(best, budget="93 chars") == f"{STAR_SENTENCES[1]} {STAR_SENTENCES[2]} {STAR_SENTENCES[4]}"
    assert summary(best, budget="100%") == " ".join(STAR_SENTENCES)
    # not even one fits: the best is cut
    assert summary(best, budget="11 chars") == "The harbour"
    assert summary(best, budget="11 tokens") == "The harbour"


def test_random_sentences_follow_seed_document_and_sample(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    text = " ".join(f"Sentence {i:02} stands here." for i in range(50))
    draws = [summary(RandomSentences("r", byte_tokenizer), text, "20%", sample) for sample in range(3)]
    assert len(set(draws)) == 3
    assert draws == [summary(RandomSentences("r", byte_tokenizer), text, "20%", sample) for sample in range(3)]
    assert summary(RandomSentences("r", byte_tokenizer, seed=1), text, "20%") != draws[0]
    for draw in draws:
        numbers = [int(word) for word in draw.split() if word.isdigit()]
        assert len(numbers) == 10  # 50 of 24 characters and 49 spaces, so 249 are allowed: 10 * 24 + 9
        assert numbers == sorted(numbers)


def test_random_sentences_are_the_same_in_another_process(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    script = (
        "from test_baseline_contenders import STAR, summary, make_byte_tokenizer\n"
        "from squish_pl.benchmark.contenders.baselines import RandomSentences\n"
        "print(summary(RandomSentences('r', make_byte_tokenizer()), STAR, '60%', 1))"
    )
    path = [entry for entry in sys.path if entry]
    out = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == summary(RandomSentences("r", byte_tokenizer), STAR, "60%", 1)


def test_highlights_answer_only_where_there_are_some() -> None:
    highlights = Highlights("people")
    tasks = [Task(Document("a"), "10%", highlights=text) for text in (" A strike\ud800 ends. ", "", None)]
    first, *rest = [given for _, given in highlights.summarise(tasks)]
    assert (first.outcome, first.summary) == (Outcome.WRITTEN, "A strike? ends.")
    for given in rest:
        assert given.outcome is Outcome.FAILED
        assert given.reason == "the data has no highlights of this document"


def test_identities_tell_settings_apart(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    larger = make_byte_tokenizer()
    larger.add_tokens(["ferry"])
    contenders = [
        *all_of(byte_tokenizer),
        RandomSentences("random", byte_tokenizer, seed=1),
        Opening("opening", larger),
    ]
    assert len({contender.identity for contender in contenders}) == len(contenders)
    again = all_of(make_byte_tokenizer())
    assert [c.identity for c in again] == [c.identity for c in contenders[:4]]


def test_sentences_of_a_text() -> None:
    assert split_sentences(STAR) == STAR_SENTENCES
    assert split_sentences(
        'Dr. Rowe left at 5.30 p.m. for the U.S. embassy. "But they know!" J. Aske paid £2.5 million.'
    ) == [
        "Dr. Rowe left at 5.30 p.m. for the U.S. embassy.",
        '"But they know!"',
        "J. Aske paid £2.5 million.",
    ]
    assert split_sentences(" \n\n") == []


def test_a_missing_library_is_said(byte_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squish_pl.benchmark.contenders.baselines.find_spec", lambda name: None)
    (problem,) = BestSentences("best", byte_tokenizer).problems()
    assert problem == "best needs nltk and sumy: pip install 'squish-pl[benchmark]'"
