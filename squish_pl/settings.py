"""Settings of a run that belong to no single room."""

from __future__ import annotations

from dataclasses import dataclass, field

from squish_pl.score.template import ScoreTemplate


@dataclass(frozen=True)
class ScoreSettings:
    """The scorer of a run.

    Attributes:
        template: How summary and document are framed for the reference.
        novel_ngram: Token n-grams of this length count as copied.
        batch_tokens: Most tokens in one forward pass of the reference.
    """

    template: ScoreTemplate = field(default_factory=ScoreTemplate)
    novel_ngram: int = 4
    batch_tokens: int = 8192

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [f"score.{problem}" for problem in self.template.problems()]
        return found + [
            f"score.{name} must be at least 1, but is {value}"
            for name, value in (("novel_ngram", self.novel_ngram), ("batch_tokens", self.batch_tokens))
            if value < 1
        ]


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) with linear warm-up, then a constant rate.

    Attributes:
        learning_rate: After warm-up.
        warmup_steps: Optimiser steps over which the rate rises from a fraction to its full value.
        betas: Decay of the first and second moment.
        weight_decay: On the adapter's weights.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them alone.
        offload: Keep the optimiser's state in the CPU's memory between steps.
    """

    learning_rate: float = 1e-5
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    offload: bool = False

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if self.learning_rate <= 0:
            found.append(f"optimizer.learning_rate must be above 0, but is {self.learning_rate}")
        if not all(0 <= beta < 1 for beta in self.betas):
            found.append(f"optimizer.betas must be at least 0 and below 1, but are {self.betas}")
        found += [
            f"optimizer.{name} must not be negative, but is {value}"
            for name, value in (
                ("warmup_steps", self.warmup_steps),
                ("weight_decay", self.weight_decay),
                ("max_grad_norm", self.max_grad_norm),
            )
            if value < 0
        ]
        return found
