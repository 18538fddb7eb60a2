"""The measures that `meta` lays beside people's judgement where none are named."""

from __future__ import annotations

from squish_pl.score.measures.base import Measure
from squish_pl.score.measures.copies import AlignedNovel, BeyondCopying, Novel, SmoothNovel
from squish_pl.score.measures.fair import Fair
from squish_pl.score.measures.savings import Clipped, Harm, Positive, Squish
from squish_pl.score.measures.support import Ending, Support, SupportGain, WeakestSupport


def default_measures() -> list[Measure]:
    """One of each that needs no passes of its own over documents, the fair score first."""
    savings: list[Measure] = [Squish(), Clipped(), Positive(), Harm()]
    copies: list[Measure] = [Novel(), SmoothNovel(), AlignedNovel(), BeyondCopying()]
    return [Fair(), *savings, *copies, Support(), WeakestSupport(), SupportGain(), Ending()]
