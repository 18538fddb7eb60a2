"""Baselines: what they write, that it fits every kind of budget, and that it is the same in every run."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence

import pytest
from tiny import make_byte_tokenizer
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from squish_pl import __version__
from squish_pl.benchmark.contenders import baselines
from squish_pl.benchmark.contenders.baselines import (
    Baseline,
    BestSentences,
    Highlights,
    Opening,
    RandomSentences,
    Sentences,
)
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.budget import Budget
from squish_pl.errors import BudgetError
from squish_pl.lm.tokens import tokenizer_hash
from squish_pl.score.baselines import lead
from squish_pl.types import Document

# TextRank's graph of the first four is a star: the third shares words with each other one, they share none
STAR = (
    "Harbour gates opened early. Fishermen mended torn nets. The harbour fishermen watched the lighthouse blink. "
    "A lighthouse stood far away.\nNobody slept there."
)
STAR_SENTENCES = [
    "Harbour gates opened early.",
    "Fishermen mended torn nets.",
    "The harbour fishermen watched the lighthouse blink.",
    "A lighthouse stood far away.",
    "Nobody slept there.",
]
CENTRE, LAST = STAR_SENTENCES[2], STAR_SENTENCES[4]  # of 51 and 19 characters
BUDGETS = ["1%", "10%", "50%", "100%", "1 char", "60 chars", "10% tokens", "70 tokens", "10% bytes"]


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


def counting(contender: Baseline, tokenizer: PreTrainedTokenizerFast | None) -> Baseline:
    """The contender as a run with budgets in tokens leaves it."""
    contender.tokenizer = tokenizer
    return contender


def all_of(tokenizer: PreTrainedTokenizerFast | None = None) -> list[Baseline]:
    contenders = [Opening(), Opening(share=0.7), BestSentences(), RandomSentences()]
    return [counting(contender, tokenizer) for contender in contenders]


@pytest.mark.parametrize("budget", BUDGETS)
def test_all_fit_every_budget(byte_tokenizer: PreTrainedTokenizerFast, budget: str) -> None:
    for contender in all_of(byte_tokenizer):
        assert contender.is_baseline
        assert contender.is_free
        assert contender.problems() == []
        text = summary(contender, budget=budget)
        assert Budget.parse(budget).allows(text, STAR, byte_tokenizer)
        assert text == text.strip()


@pytest.mark.parametrize("text", ["", " \n", "word", "…", "東京は首都です。人口は多い。", "a. b. c.", "1\n2"])
def test_odd_documents_end_no_run(byte_tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    for contender in all_of(byte_tokenizer):
        for budget in BUDGETS:
            assert answer(contender, text, budget).outcome is Outcome.WRITTEN


def test_the_opening_is_the_lead(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    opening = counting(Opening(), byte_tokenizer)
    for budget in BUDGETS:
        assert summary(opening, budget=budget) == lead(STAR, Budget.parse(budget), byte_tokenizer)


@pytest.mark.parametrize(
    ("budget", "length"), [("10%", 7), ("10 chars", 7), ("10 tokens", 7), ("10% tokens", 7), ("11 chars", 7)]
)
def test_seventy_percent_of_the_budget(byte_tokenizer: PreTrainedTokenizerFast, budget: str, length: int) -> None:
    assert summary(counting(Opening(share=0.7), byte_tokenizer), "x" * 100, budget) == "x" * length


@pytest.mark.parametrize(("share", "shown"), [(0.0, "0.0"), (1.1, "1.1"), (math.nan, "nan"), (math.inf, "inf")])
def test_a_share_out_of_range(share: float, shown: str) -> None:
    assert Opening(share=share).problems() == [f"share must be above 0 and at most 1, but is {shown}"]


def test_no_samples_are_a_problem() -> None:
    assert RandomSentences(samples=0).problems() == ["samples must be at least 1, but is 0"]


def test_names_are_optional() -> None:
    contenders = [*all_of(), Highlights()]
    assert [contender.name for contender in contenders] == [
        "opening",
        "opening, 70%",
        "best sentences",
        "random sentences",
        "highlights",
    ]
    own = [Opening("o"), Opening("o", 0.7), BestSentences("o"), RandomSentences("o"), Highlights("o")]
    assert {contender.name for contender in own} == {"o"}


def test_tasks_are_asked_by_budget_then_document_then_sample_and_a_text_once() -> None:
    first, second, again = Document("one", name="a"), Document("two"), Document("one", name="b")
    assert RandomSentences(samples=2).tasks([first, second, again], ["5%", "64 tokens"]) == [
        Task(first, "5%", 0),
        Task(first, "5%", 1),
        Task(second, "5%", 0),
        Task(second, "5%", 1),
        Task(first, "64 tokens", 0),
        Task(first, "64 tokens", 1),
        Task(second, "64 tokens", 0),
        Task(second, "64 tokens", 1),
    ]
    assert Opening().tasks([], ["5%"]) == []


def test_budgets_in_characters_need_no_tokenizer(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    for without, having in zip(all_of(), all_of(byte_tokenizer), strict=True):
        assert without.tokenizer is None
        for budget in ("1%", "10%", "50%", "1 char", "60 chars", "10% bytes", "60 bytes"):
            assert summary(without, budget=budget) == summary(having, budget=budget)


@pytest.mark.parametrize("budget", ["10% tokens", "70 tokens"])
def test_budgets_in_tokens_need_one(budget: str) -> None:
    for contender in all_of():
        with pytest.raises(BudgetError, match="counts tokens, so it needs the reference's tokenizer"):
            answer(contender, budget=budget)


def test_the_best_sentence_is_the_central_one() -> None:
    best = BestSentences()
    assert best.rank(STAR_SENTENCES, Task(Document(STAR), "50%"))[0] == 2
    assert summary(best, budget=f"{len(STAR_SENTENCES[2])} chars") == STAR_SENTENCES[2]


def test_sentences_come_in_order_and_fill_the_budget(
    byte_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = BestSentences()
    best.tokenizer = byte_tokenizer
    monkeypatch.setattr(best, "rank", lambda sentences, task: [2, 1, 4, 0, 3])
    # 51 + 1 + 19 characters: the second-best, of 27, is passed over
    assert summary(best, budget="78 chars") == f"{CENTRE} {LAST}"
    assert summary(best, budget="79 chars") == f"{STAR_SENTENCES[1]} {CENTRE}"
    assert summary(best, budget="99 chars") == f"{STAR_SENTENCES[1]} {CENTRE} {LAST}"
    assert summary(best, budget="100%") == " ".join(STAR_SENTENCES)
    # not even one fits: the best is cut
    assert summary(best, budget="11 chars") == "The harbour"
    assert summary(best, budget="11 tokens") == "The harbour"


@pytest.mark.parametrize("unit", ["chars", "tokens", "bytes"])  # a byte each
def test_the_best_that_does_not_fit_is_cut_where_half_of_the_budget_is_left(
    byte_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    best = counting(BestSentences(), byte_tokenizer)
    monkeypatch.setattr(best, "rank", lambda sentences, task: [sentences.index(CENTRE), sentences.index(LAST)])
    # the last fits and takes 19: half of 38, which is enough, but less than half of 39
    assert summary(best, f"{LAST} {CENTRE}", f"38 {unit}") == LAST
    assert summary(best, f"{LAST} {CENTRE}", f"39 {unit}") == f"{LAST} The harbour fisherm"  # 19 + 1 + 19
    assert summary(best, f"{CENTRE} {LAST}", f"40 {unit}") == f"The harbour fisherme {LAST}"  # 20 + 1 + 19, in order
    assert summary(best, f"{LAST} {CENTRE}", f"51 {unit}") == CENTRE
    # neither fits
    assert summary(best, f"{LAST} {CENTRE}", f"18 {unit}") == "The harbour fisher"


@pytest.mark.parametrize("contender", [BestSentences(), RandomSentences()])
def test_fragments_are_left_out_where_there_are_sentences(contender: Sentences) -> None:
    text = "17\nAnn Aske\nThe ferry left early.\n(2 of 3)"
    assert summary(contender, text, "100%") == "The ferry left early."
    assert summary(contender, text, "9 chars") == "The ferry"  # although "Ann Aske" would fit
    assert summary(contender, "17\nAnn Aske", "100%") == "17 Ann Aske"
    assert summary(contender, "東京は首都です。\n17", "100%") == "東京は首都です。"


def test_a_document_is_worked_on_once_for_all_its_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    from sumy.summarizers.text_rank import TextRankSummarizer

    split, ranked = [], []
    monkeypatch.setattr(baselines, "split_sentences", lambda text: split.append(text) or text.split("|"))
    monkeypatch.setattr(
        TextRankSummarizer,
        "rate_sentences",
        lambda self, document: ranked.append(document) or dict.fromkeys(document.sentences, 1),
    )
    documents = [Document(f"Once {i} ferries left.|Once {i} ferries came back.") for i in range(3)]
    best, lots = BestSentences(), RandomSentences(samples=2)
    tasks = best.tasks(documents, ["30%", "60%", "100%"])  # by budget
    assert {task for task, _ in best.summarise(tasks)} == set(tasks)
    assert (len(split), len(ranked)) == (3, 3)
    tasks = lots.tasks(documents, ["30%", "60%", "100%"])
    answers = dict(lots.summarise(tasks))
    assert set(answers) == set(tasks)
    assert (len(split), len(ranked)) == (6, 3)
    for task, given in answers.items():  # each as if it were asked alone
        assert given.summary == summary(lots, task.document.text, task.budget, task.sample)


def test_random_sentences_follow_seed_document_and_sample() -> None:
    text = " ".join(f"Sentence {i:02} stands here." for i in range(50))
    draws = [summary(RandomSentences(), text, "20%", sample) for sample in range(3)]
    assert len(set(draws)) == 3
    assert draws == [summary(RandomSentences("other"), text, "20%", sample) for sample in range(3)]
    assert summary(RandomSentences(seed=1), text, "20%") != draws[0]
    for draw in draws:
        numbers = [int(word) for word in draw.split() if word.isdigit()]
        assert len(numbers) == 10  # 50 of 24 characters and 49 spaces, so 249 are allowed: 10 * 24 + 9
        assert numbers == sorted(numbers)


def test_random_sentences_are_the_same_in_another_process() -> None:
    script = (
        "from test_baseline_contenders import STAR, summary\n"
        "from squish_pl.benchmark.contenders.baselines import RandomSentences\n"
        "print(summary(RandomSentences(), STAR, '60%', 1))"
    )
    path = [entry for entry in sys.path if entry]
    out = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == summary(RandomSentences(), STAR, "60%", 1)


def test_highlights_answer_only_where_there_are_some() -> None:
    highlights = Highlights("people")
    assert highlights.is_baseline
    assert highlights.is_free
    texts = " A strike\ud800 ends. ", "", " \n"
    tasks = highlights.tasks([Document(f"text {i}", highlights=text) for i, text in enumerate(texts)], ["10%"])
    assert [task.document.text for task in tasks] == ["text 0", "text 1", "text 2"]  # those without are asked too
    first, *rest = [given for _, given in highlights.summarise(tasks)]
    assert (first.outcome, first.summary) == (Outcome.WRITTEN, "A strike? ends.")
    for given in rest:
        assert given.outcome is Outcome.FAILED
        assert given.reason == "the data has no highlights of this document"


def test_a_text_that_comes_twice_has_the_first_ones_highlights() -> None:
    highlights = Highlights()
    tasks = highlights.tasks([Document("text", highlights=said) for said in ("one", "two")], ["10%"])
    assert [given.summary for _, given in highlights.summarise(tasks)] == ["one"]


def test_the_identity_of_highlights_is_what_is_said_of_which_document() -> None:
    def identity(*said: tuple[str, str], budgets: Sequence[str] = ("10%",), name: str = "h") -> str:
        contender = Highlights(name)
        contender.tasks([Document(text, highlights=highlights) for text, highlights in said], budgets)
        return contender.identity

    first = identity(("one", "a"), ("two", "b"))
    assert identity(("two", "b"), ("one", "a"), ("one", "c"), budgets=["5%", "10%"], name="other") == first
    others = [
        identity(("one", "a"), ("two", "B")),
        identity(("one", "a"), ("two", "")),
        identity(("one", "b"), ("two", "a")),
        identity(("one", "a")),
        identity(("one", "a"), ("three", "b")),
    ]
    assert len({first, *others}) == 6


def test_identities_tell_settings_apart_and_nothing_else(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    contenders = [*all_of(), RandomSentences(seed=1)]
    assert len({contender.identity for contender in contenders}) == 5
    # the tokenizer decides only where a budget counts tokens
    assert [c.identity for c in all_of(byte_tokenizer)] == [c.identity for c in contenders[:4]]
    assert Opening("other").identity == Opening().identity == f"Opening 1.0, squish-pl {__version__}"
    assert RandomSentences(samples=5).identity == RandomSentences().identity


def test_a_tokenizer_hash_tells_vocabularies_and_their_use_apart(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    first = tokenizer_hash(byte_tokenizer)
    assert tokenizer_hash(make_byte_tokenizer()) == first
    larger, split = make_byte_tokenizer(), make_byte_tokenizer()
    larger.add_tokens(["ferry"])
    split.backend_tokenizer.pre_tokenizer = Whitespace()
    assert len({first, tokenizer_hash(larger), tokenizer_hash(split)}) == 3


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squish_pl.benchmark.contenders.baselines.find_spec", lambda name: None)
    assert BestSentences().problems() == ["it needs nltk and sumy: pip install 'squish-pl[benchmark]'"]
    assert RandomSentences().problems() == ["it needs nltk: pip install 'squish-pl[benchmark]'"]
    assert Opening().problems() == []  # which needs none
