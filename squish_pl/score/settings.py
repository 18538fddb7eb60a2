"""Settings of a scorer."""

from __future__ import annotations

from dataclasses import dataclass, field

from squish_pl.score.measures.base import Measure, measure_problems
from squish_pl.score.template import ScoreTemplate


@dataclass(frozen=True)
class ScoreSettings:
    """The scorer of a run.

    Attributes:
        template: How summary and document are framed for the reference.
        novel_ngram: Token n-grams of this length count as copied.
        batch_tokens: Most tokens in one forward pass of the reference.
        measures: What is measured beside SQUISH and SQUISH-novel, by class_path: Fair, Support, any other of
            docs/meta.md, or a class of your own; each is a score of the benchmark.
    """

    template: ScoreTemplate = field(default_factory=ScoreTemplate)
    novel_ngram: int = 4
    batch_tokens: int = 8192
    measures: list[Measure] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        too_small = [
            f"{name} must be at least 1, but is {value}"
            for name, value in (("novel_ngram", self.novel_ngram), ("batch_tokens", self.batch_tokens))
            if value < 1
        ]
        found = [*self.template.problems(), *too_small, *measure_problems(self.measures)]
        return [f"score.{problem}" for problem in found]
