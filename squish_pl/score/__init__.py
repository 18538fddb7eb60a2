"""The score itself. Knows nothing of reinforcement learning or Lightning."""

from squish_pl.budget import Budget, BudgetUnit
from squish_pl.score.metric import SquishMetric, squish
from squish_pl.score.original import OriginalTemplate
from squish_pl.score.reference import FrozenModel, ReferenceModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.template import ScoreTemplate

__all__ = [
    "Budget",
    "BudgetUnit",
    "FrozenModel",
    "OriginalTemplate",
    "ReferenceModel",
    "ScoreRequest",
    "ScoreTemplate",
    "SquishMetric",
    "SquishScorer",
    "squish",
]
