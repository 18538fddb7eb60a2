"""Whoever writes summaries: models, services, files and baselines behind one interface."""

from squish_pl.benchmark.contenders.base import Contender

__all__ = ["Contender"]
