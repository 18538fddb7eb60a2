"""What a run can do without, and its users cannot."""

from squish_pl.callbacks.about import About
from squish_pl.callbacks.adapter_checkpoint import AdapterCheckpoint
from squish_pl.callbacks.entropy import EntropyMonitor
from squish_pl.callbacks.predictions import PredictionWriter
from squish_pl.callbacks.progress import RoundProgressBar
from squish_pl.callbacks.samples import SampleSummaries
from squish_pl.callbacks.throughput import Throughput
from squish_pl.callbacks.together import StopTogether

__all__ = [
    "About",
    "AdapterCheckpoint",
    "EntropyMonitor",
    "PredictionWriter",
    "RoundProgressBar",
    "SampleSummaries",
    "StopTogether",
    "Throughput",
]
