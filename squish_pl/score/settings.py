"""Settings of a scorer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from squish_pl.score.measures.base import Measure, measure_problems
from squish_pl.score.original import OriginalTemplate
from squish_pl.score.template import ScoreTemplate

Protocol = Literal["own", "original"]


@dataclass(frozen=True)
class ScoreSettings:
    """The scorer of a run.

    Attributes:
        template: How summary and document are framed for the reference.
        novel_ngram: Token n-grams of this length count as copied.
        batch_tokens: Most tokens in one forward pass of the reference.
        measures: What is measured beside SQUISH and SQUISH-novel, by class_path: Fair, Support, any other of
            docs/meta.md, or a class of your own; each is a score of the benchmark.
        protocol: "original" sums and frames as the original does (see `score.original`), which has a template of its
            own; "own" sums over exactly the document's tokens, alone and behind the summary.
    """

    template: ScoreTemplate = field(default_factory=ScoreTemplate)
    novel_ngram: int = 4
    batch_tokens: int = 8192
    measures: list[Measure] = field(default_factory=list)
    protocol: Protocol = "own"

    def __post_init__(self) -> None:
        if self.protocol == "original" and repr(self.template) == repr(ScoreTemplate()):
            template = OriginalTemplate(support_frame=self.template.support_frame)
            object.__setattr__(self, "template", template)

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        too_small = [
            f"{name} must be at least 1, but is {value}"
            for name, value in (("novel_ngram", self.novel_ngram), ("batch_tokens", self.batch_tokens))
            if value < 1
        ]
        other = self.protocol == "original" and not isinstance(self.template, OriginalTemplate)
        worded = ["template must be left out where protocol is original, which has its own"] if other else []
        found = [*self.template.problems(), *worded, *too_small, *measure_problems(self.measures)]
        return [f"score.{problem}" for problem in found]
