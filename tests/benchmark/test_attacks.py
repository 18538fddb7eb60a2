"""Attacks: what each writes, worked out by hand; that none is ever over its budget; that none fails silently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_settings import few_examples
from tiny import make_byte_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from squish_pl.benchmark import attacks
from squish_pl.benchmark.attacks import (
    AddedNegation,
    AddedSentence,
    AllCapitals,
    CapitalWords,
    CopiedOpening,
    DroppedWords,
    ExchangedFacts,
    Finished,
    LongWords,
    MiddleSlice,
    NamesOnly,
    NoStopWords,
    OtherSummary,
    RareWords,
    RepeatedSentence,
    ShuffledSentences,
    SwappedWords,
)
from squish_pl.benchmark.attacks.names import name_spans, number_spans
from squish_pl.benchmark.contenders import Contender
from squish_pl.benchmark.contenders.baselines import Baseline
from squish_pl.benchmark.records import Answer, Outcome
from squish_pl.budget import Budget
from squish_pl.score.baselines import lead
from squish_pl.types import Document

TEXT = "The ferry left at dawn. In Bergen, Anna Holm's goat slept on. It rained in Oslo."
HIGHLIGHTS = "The ferry of Anna Holm is in Bergen. Some 31 people waited 9 hours."


def make_merging_tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level BPE over whole lines, so that tokens reach over words and change where a text is cut."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([TEXT, HIGHLIGHTS, "Anna Holm is in Rome. 42 goats is UN. 東京。"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


BYTES, MERGING = make_byte_tokenizer(), make_merging_tokenizer()
CLASSES = [getattr(attacks, name) for name in attacks.__all__ if name not in ("Attack", "Finished")]


def answer(
    attack: Contender, text: str = TEXT, budget: str = "100%", highlights: str = "", *others: Document
) -> Answer:
    attack.tokenizer = attack.tokenizer or BYTES
    tasks = attack.tasks([Document(text, highlights=highlights), *others], [budget])
    return next(given for task, given in attack.summarise(tasks) if task.document.text == text)


def summary(attack: Contender, text: str = TEXT, budget: str = "100%", highlights: str = "", *others: Document) -> str:
    given = answer(attack, text, budget, highlights, *others)
    assert given.outcome is Outcome.WRITTEN, given.reason
    assert given.summary is not None
    return given.summary


def reason(attack: Contender, text: str = TEXT, budget: str = "100%", highlights: str = "") -> str:
    given = answer(attack, text, budget, highlights)
    assert given.outcome is Outcome.FAILED
    assert given.summary is None
    return given.reason


def test_all_are_marked_free_and_named_differently() -> None:
    made = [kind() for kind in CLASSES]
    assert len({attack.name for attack in made}) == len({attack.identity for attack in made}) == len(CLASSES) == 16
    for attack in made:
        assert attack.is_attack
        assert attack.is_free
        assert attack.problems() == []


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (SwappedWords(), "one two four three five seven six"),
        (SwappedWords(every=4), "one two three five four six seven"),
        (DroppedWords(), "one two four five seven"),
        (DroppedWords(every=4), "one two three five six seven"),
        (CapitalWords(), "one two THREE four five SIX seven"),
        (CapitalWords(every=4), "one two three FOUR five six seven"),
        (CopiedOpening(), "one two three four five six seven"),
    ],
)
def test_every_nth_word(attack: Baseline, expected: str) -> None:
    text = "one two three four five six seven"
    assert summary(attack, text) == expected
    assert summary(attack, text, "20 chars") == expected[:20].rstrip()
    assert summary(attack, text, "20 tokens") == expected[:20].rstrip()


def test_the_last_word_has_none_to_swap_with_and_white_space_stays() -> None:
    assert summary(SwappedWords(), " a  b\nc d\te f ") == "a  b\nd c\te f"


@pytest.mark.parametrize("every", [1, 0, -2])
def test_every_must_be_two_or_more(every: int) -> None:
    assert SwappedWords(every=every).problems() == [f"every must be at least 2, but is {every}"]


@pytest.mark.parametrize("attack", [SwappedWords(), DroppedWords(), CapitalWords()])
def test_what_the_budget_cuts_to_the_opening_has_failed(attack: Baseline) -> None:
    assert reason(attack, "one two three four", "7 chars") == "within the budget it is the document's opening"
    assert summary(attack, "one two three four", "9 chars") != "one two t"


@pytest.mark.parametrize("unit", ["chars", "tokens", "bytes"])
def test_the_middle(unit: str) -> None:
    assert summary(MiddleSlice(), "0123456789", f"4 {unit}") == "3456"
    assert summary(MiddleSlice(), "0123456789", f"3 {unit}") == "345"
    assert summary(MiddleSlice(), "  012345  ", f"2 {unit}") == "23"
    assert reason(MiddleSlice(), "0123456789", "100%") == "within the budget it is the document's opening"


def test_rare_words() -> None:
    # "the" and "cat" come twice, whatever their case; 7, 5, 3 letters come before them
    assert summary(RareWords(), "The cat met the wounded Cat in Paris") == "wounded, Paris, met, in, The, cat"
    assert reason(RareWords(), "12 34") == "the document has no words"


def test_long_words() -> None:
    text = "Seventy travellers waited, and seventy slept elsewhere"
    assert summary(LongWords(), text) == "Seventy; travellers; elsewhere"
    assert summary(LongWords(least=6), text) == "Seventy; travellers; waited; elsewhere"
    assert reason(LongWords(least=11), text) == "the document has no word of 11 letters or more"


def test_no_stop_words_in_english_and_elsewhere() -> None:
    assert summary(NoStopWords(), "The 9 dogs of the mayor, who was in it, slept.") == "9 dogs mayor, slept."
    assert summary(NoStopWords(), "Die 9 Hunde des Meisters, der fern war, schliefen.") == (
        "9 Hunde Meisters, fern schliefen."
    )
    assert reason(NoStopWords(), "It is the one.") == "the document has nothing but stop words"
    assert reason(NoStopWords(), "Dogs slept.") == "within the budget it is the document's opening"


def test_names() -> None:
    assert [TEXT[start:end] for start, end in name_spans(TEXT)] == ["Bergen", "Anna Holm", "Oslo"]
    text = "I saw Mr Ole Lund's Oslo. Rain fell on UN Plaza, Paris, and I A slept."
    assert [text[start:end] for start, end in name_spans(text)] == ["Mr Ole Lund", "Oslo", "UN Plaza", "Paris"]
    assert summary(NamesOnly()) == "Bergen, Anna Holm, Oslo"
    assert summary(NamesOnly(), "In Rome. To ROME, or Rome.") == "Rome"
    assert reason(NamesOnly(), "Rain fell. Snow fell.") == "the document has no names"


def test_numbers() -> None:
    text = "In 1,200 of 3.5 cases, 7."
    assert [text[start:end] for start, end in number_spans(text)] == ["1,200", "3.5", "7"]


def test_sentences_shuffled() -> None:
    sentences = ["It is one.", "It is two.", "It is three.", "It is four."]
    for seed in range(20):
        shuffled = summary(ShuffledSentences(seed=seed), " ".join(sentences))
        parts = [f"{part}." for part in shuffled.rstrip(".").split(". ")]
        assert sorted(parts) == sorted(sentences)
        assert parts[0] != sentences[0]
    assert len({summary(ShuffledSentences(seed=seed), " ".join(sentences)) for seed in range(20)}) > 1
    assert summary(ShuffledSentences(), "It is one. It is two.", "14 chars") == "It is two. It"
    assert reason(ShuffledSentences(), "It is one.") == "the document has fewer than two sentences"
    assert reason(ShuffledSentences(), "So so so. So so so.") == "within the budget it is the document's opening"


def test_a_sentence_repeated() -> None:
    text = "This one is much too long. It is short. It was shorter."  # of 26, 12 and 15 characters
    assert summary(RepeatedSentence(), text, "35 chars") == "It was shorter. It was shorter. It"
    assert summary(RepeatedSentence(), text, "26 tokens") == "It is short. It is short."
    assert (
        summary(RepeatedSentence(), text, "500 chars") == (" ".join(["This one is much too long."] * 19))[:500].rstrip()
    )
    assert reason(RepeatedSentence(), text, "24 chars") == "the budget holds no sentence of the document twice"


def test_the_summary_of_another() -> None:
    first, second, third = Document("One."), Document("Two.", highlights="Of two."), Document("Three is text.")
    attack = OtherSummary()
    tasks = attack.tasks([first, second, first, third], ["5 chars"])
    given = {task.document.text: answer.summary for task, answer in attack.summarise(tasks)}
    assert given == {"One.": "Of tw", "Two.": "Three", "Three is text.": "One."}
    alone = OtherSummary()
    ((_, failed),) = alone.summarise(alone.tasks([first, first], ["5 chars"]))
    assert (failed.outcome, failed.reason) == (Outcome.FAILED, "there is no other document")
    assert alone.identity != attack.identity


def test_facts_exchanged() -> None:
    assert summary(ExchangedFacts(), highlights=HIGHLIGHTS) == (
        "The ferry of Bergen is in Anna Holm. Some 9 people waited 31 hours."
    )
    assert summary(ExchangedFacts(), highlights="It cost 5 here, 5 there, and 60 in Rome.") == (
        "It cost 60 here, 60 there, and 5 in Rome."
    )
    three = {summary(ExchangedFacts(seed=seed), highlights="It took 1, then 2, then 3.") for seed in range(20)}
    assert three == {"It took 2, then 3, then 1.", "It took 3, then 1, then 2."}  # none in its own place
    why = "the highlights have neither two numbers nor two names"
    assert reason(ExchangedFacts(), highlights="Anna paid 5, and 5 again, in Rome.") == why


def test_no_change_is_cut_away() -> None:
    room = "the budget leaves no room for what is spoiled"
    assert summary(ExchangedFacts(), budget="19 chars", highlights=HIGHLIGHTS) == "The ferry of Bergen"
    assert reason(ExchangedFacts(), budget="18 chars", highlights=HIGHLIGHTS) == room
    assert summary(AddedNegation(), budget="29 chars", highlights=HIGHLIGHTS) == "The ferry of Anna Holm is not"
    assert summary(AddedNegation(), budget="28 chars", highlights=HIGHLIGHTS) == "It is not true that The ferr"
    assert reason(AddedNegation(), budget="20 chars", highlights=HIGHLIGHTS) == room
    assert reason(AddedSentence(), budget="40 chars", highlights=HIGHLIGHTS) == room


def test_a_negation_added() -> None:
    assert summary(AddedNegation(), highlights="Rain HAD fallen. It was wet.") == "Rain HAD not fallen. It was wet."
    assert summary(AddedNegation(), highlights="It is not wet. It can dry.") == "It is not wet. It can not dry."
    assert summary(AddedNegation(), highlights="Rain fell.") == "It is not true that Rain fell."


def test_a_sentence_added() -> None:
    whole = summary(AddedSentence(), TEXT * 9, highlights="Rain fell.")
    assert whole.startswith("Rain fell. ")
    added = whole.removeprefix("Rain fell.")
    assert 50 < len(added) < 70
    for budget in (f"{len(added) + 4} chars", f"{len(added) + 4} tokens"):
        assert summary(AddedSentence(), TEXT * 9, budget, "Rain fell.") == "Rain" + added
    assert len({summary(AddedSentence(seed=seed), TEXT * 9, highlights="Rain fell.") for seed in range(30)}) == 5


def test_capitals() -> None:
    assert summary(AllCapitals(), highlights="Rain fell on Oslo.") == "RAIN FELL ON OSLO."
    assert summary(AllCapitals(), budget="6 chars", highlights="Rain fell on Oslo.") == "RAIN F"
    assert reason(AllCapitals(), highlights="UN 1945") == "the highlights have no small letters"


@pytest.mark.parametrize("kind", [ExchangedFacts, AddedNegation, AddedSentence, AllCapitals])
def test_nothing_is_spoiled_without_highlights(kind: type[Baseline]) -> None:
    assert reason(kind()) == "the data has no highlights of this document"
    one, other = kind(), kind()
    one.tasks([Document(TEXT, highlights="a")], ["10%"])
    other.tasks([Document(TEXT, highlights="b")], ["10%"])
    assert one.identity != other.identity


PIECES = st.sampled_from(
    ["The ", "Anna Holm ", "is ", "42 ", "in Rome. ", "9 ", "ßig ", "東京。", "\n", "goats ", "é", "UN. "]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=40).map("".join)


@few_examples(60)
@given(
    text=TEXTS.filter(str.strip),
    highlights=TEXTS,
    budget=st.sampled_from(
        ["1%", "20%", "100%", "1 char", "30 chars", "90 chars", "10% tokens", "25 tokens", "20% bytes", "30 bytes"]
    ),
    tokenizer=st.sampled_from([BYTES, MERGING]),
)
def test_never_over_any_budget_and_the_same_again(
    text: str, highlights: str, budget: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    cap = Budget.parse(budget)
    limit = cap.limit(text, tokenizer)

    def once_more(kind: type[Baseline]) -> Answer:
        attack = kind()
        attack.tokenizer = tokenizer
        return answer(attack, text, budget, highlights, Document("Another one."))

    for kind in CLASSES:
        found = once_more(kind)
        assert once_more(kind).summary == found.summary
        if found.outcome is Outcome.FAILED:
            assert found.reason
            continue
        assert found.summary is not None
        assert found.summary == found.summary.strip()
        length = cap.length(found.summary, tokenizer)
        assert length <= limit
        if kind is CopiedOpening:
            assert found.summary == lead(text, cap, tokenizer)
        if kind is RepeatedSentence and tokenizer is BYTES:
            # but for white space at the end, and for a character of which not all bytes have room
            assert length >= limit - 4


@pytest.mark.parametrize(
    ("attack", "text", "budget", "expected"),
    [
        (CopiedOpening(), "The goat slept on deck.", "13 chars", "The goat."),  # cut within a word
        (CopiedOpening(), "The goat slept on deck.", "100%", "The goat slept on deck."),  # closed already
        (CopiedOpening(), "The goat, the deck", "15 chars", "The goat, the."),
        (CopiedOpening(), "The goat, the deck", "12 chars", "The goat."),  # no comma before the stop
        (CopiedOpening(), "The goat\u3002\u6771", "9 chars", "The goat\u3002"),
        (CapitalWords(), "one two four five six", "100%", "one two FOUR five."),
    ],
)
def test_finished_by_hand(attack: Baseline, text: str, budget: str, expected: str) -> None:
    assert summary(Finished(attack), text, budget) == expected


def test_finished_tells_its_attack_and_fails_with_it() -> None:
    assert Finished(CopiedOpening()).name == "copied opening, finished"
    assert Finished(DroppedWords(every=3)).identity != Finished(DroppedWords(every=4)).identity
    assert Finished(CopiedOpening()).is_attack
    assert Finished(DroppedWords(every=0)).problems() == DroppedWords(every=0).problems() != []
    assert answer(Finished(CopiedOpening()), "Unforgettable", "5 chars").outcome is Outcome.FAILED
    assert answer(Finished(RepeatedSentence()), "One word").reason == answer(RepeatedSentence(), "One word").reason
