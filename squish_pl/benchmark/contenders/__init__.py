"""Whoever writes summaries: models, services, files and baselines behind one interface."""

from squish_pl.benchmark.contenders.asking import Patience
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.contenders.baselines import BestSentences, Highlights, Opening, RandomSentences
from squish_pl.benchmark.contenders.endpoint import Endpoint, Prices
from squish_pl.benchmark.contenders.given import GivenSummaries
from squish_pl.benchmark.contenders.local import LocalModel
from squish_pl.benchmark.contenders.original import OriginalOpening

__all__ = [
    "BestSentences",
    "Contender",
    "Endpoint",
    "GivenSummaries",
    "Highlights",
    "LocalModel",
    "Opening",
    "OriginalOpening",
    "Patience",
    "Prices",
    "RandomSentences",
]
