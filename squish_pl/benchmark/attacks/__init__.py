"""Attacks: what nobody would call a summary, to see which scores can be bought by tricks."""

from squish_pl.benchmark.attacks.base import Attack, CopiedOpening
from squish_pl.benchmark.attacks.copies import MiddleSlice, OtherSummary, RepeatedSentence, ShuffledSentences
from squish_pl.benchmark.attacks.finished import Finished
from squish_pl.benchmark.attacks.spoiled import AddedNegation, AddedSentence, AllCapitals, ExchangedFacts
from squish_pl.benchmark.attacks.word_lists import (
    CapitalWords,
    DroppedWords,
    LongWords,
    NamesOnly,
    NoStopWords,
    RareWords,
    SwappedWords,
)

__all__ = [
    "AddedNegation",
    "AddedSentence",
    "AllCapitals",
    "Attack",
    "CapitalWords",
    "CopiedOpening",
    "DroppedWords",
    "ExchangedFacts",
    "Finished",
    "LongWords",
    "MiddleSlice",
    "NamesOnly",
    "NoStopWords",
    "OtherSummary",
    "RareWords",
    "RepeatedSentence",
    "ShuffledSentences",
    "SwappedWords",
]
