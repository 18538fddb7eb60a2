"""Measures: candidate scores, each a class that a configuration names by its class_path."""

from squish_pl.score.measures.base import Measure
from squish_pl.score.measures.copies import AlignedNovel, BeyondCopying, Novel, SmoothNovel
from squish_pl.score.measures.fair import Fair
from squish_pl.score.measures.savings import Clipped, Contrast, Harm, Positive, Squish
from squish_pl.score.measures.shannon import ShannonScore
from squish_pl.score.measures.support import Ending, Support, SupportGain, WeakestSupport
from squish_pl.score.measures.weighted import Weighted

__all__ = [
    "AlignedNovel",
    "BeyondCopying",
    "Clipped",
    "Contrast",
    "Ending",
    "Fair",
    "Harm",
    "Measure",
    "Novel",
    "Positive",
    "ShannonScore",
    "SmoothNovel",
    "Squish",
    "Support",
    "SupportGain",
    "WeakestSupport",
    "Weighted",
]
