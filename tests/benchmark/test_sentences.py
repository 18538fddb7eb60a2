"""Sentences: where they begin and end, to the character."""

from __future__ import annotations

from itertools import pairwise

import pytest

from squish_pl.benchmark.sentences import sentence_spans, split_sentences, words

EXAMPLES = {  # a text with "|" before and behind each of its sentences
    "plain": "|One.| |Two!| |Three?|",
    "no full stop": "|One.| |Two|",
    "one": "|Nobody slept|",
    "indented": "  |One.|  |Two.|  ",
    "line breaks": "|One|\n|goes on.| |Two.|\r\n\r\n \t|Three.| \r|Four.|\n",
    "other line breaks": "|One.|\u2028|Two.|\u2029|Three.|\x0c|Four.|",
    "wide spaces": "\u3000|One.|\u00a0|Two.|\u3000\n",
    "news": "|Harbour gates opened early.| |A lighthouse stood far away.|\n|Nobody slept.|",
    "titles": "|Dr. Rowe and Mrs. Aske met Gov. Lund.| |J. Aske left.|",
    "abbreviations": "|Ferries, e.g. the Else, left at 5.30 p.m. for the U.S. coast.| |It cost £2.5 million.|",
    "all at once": '|Dr. Rowe left at 5.30 p.m. for the U.S. embassy.| |"But they know!"| |J. Aske paid £2.5 million.|',
    "capitals": "|DR. ROWE LEFT.| |NOBODY SLEPT.|",
    "quotation": '|"But they know!"| |He said "Go."| |(They went.)| |Then all was still.|',
    "several marks": "|What?!| |No!!!| |Well... yes.|",
    "short": "|a. b. c.|",
    "Japanese": "|東京は首都です。||人口は多い。|\n\u3000|次の行！！||か？|",
    "two places for a character": "|Fog \U0001f600.| |Nai\u0308ve \U0001f469\u200d\U0001f4bb.|\n|End.|",
    "nothing": "",
    "blank": " \n\t\r\n\u3000",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_spans_cover_the_sentences_exactly(name: str) -> None:
    parts = EXAMPLES[name].split("|")  # between sentences, sentence, between, ...
    text, expected, place = "".join(parts), [], 0
    for number, part in enumerate(parts):
        if number % 2:
            expected.append((place, place + len(part)))
        place += len(part)
    assert sentence_spans(text) == expected
    assert split_sentences(text) == parts[1::2]
    assert not "".join(parts[::2]).strip()  # nothing but white space lies outside


def test_spans_by_hand() -> None:
    assert sentence_spans("One. Two.\r\n\r\n  Three!") == [(0, 4), (5, 9), (15, 21)]


def test_a_long_text_of_many_lines_keeps_its_places() -> None:
    lines = [f"{' ' * (i % 3)}Line {i} stands here. So it ends." for i in range(200)]
    text = "\n".join(lines)
    spans = sentence_spans(text)
    assert len(spans) == 400
    assert [text[start:end] for start, end in spans[::2]] == [f"Line {i} stands here." for i in range(200)]
    assert {text[start:end] for start, end in spans[1::2]} == {"So it ends."}
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann's ferry left - it was 5.30 p.m.", ["Ann's", "ferry", "left", "it", "was", "p", "m"]),
        ("A well-known café, 17 (b)!", ["A", "well-known", "café", "b"]),
        ("東京 is 首都です。", ["東", "京", "is", "首", "都", "で", "す"]),
        ("ferry東京", ["ferry", "東", "京"]),
        ("서울은 큰 도시다", ["서울은", "큰", "도시다"]),  # Korean has spaces
        ("17 - 2.5 ...", []),
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == expected
