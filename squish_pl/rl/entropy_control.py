"""Entropy control: one class each, chosen by `class_path` under `model.entropy`.

    sample -> the round's entropy -> observe: one step of the control's strength -> policy passes under it

A control is told the entropy of every round's rollouts and moves one number, its strength, towards a target. What it
does to a pass is a function of a slice's tokens and of that number, and what it needs of the whole batch it is told
before the pass: however a batch is sliced, the gradient is the same.
"""

from __future__ import annotations

import abc
import copy
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Union

import torch
from torch import Tensor

from squish_pl.rl.losses import PolicyLoss
from squish_pl.types import Experience

Target = Union[float, str]  #: nats, or a share of the first round's entropy: "80%"


class PassTokens(NamedTuple):
    """The N generated tokens of a slice, as a policy pass has them.

    Attributes:
        log_probs: [N] under the policy now, nats, with gradients.
        old_log_probs: [N] under the policy that sampled, nats, as the loss has them.
        sampled_log_probs: [N] the same as the rows hold them.
        advantages: [N] each token's completion's advantage.
        weights: [N] share of each token in the loss.
        entropies: [N] under the policy now, nats; with gradients where the control asks for them.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    sampled_log_probs: Tensor
    advantages: Tensor
    weights: Tensor
    entropies: Tensor


class EntropyControl(abc.ABC):
    """Moves its strength by one step a round, towards the target entropy.

    Args:
        target: Mean entropy of a generated token under the policy that samples: nats, or a share of what it was in
            the first round that the control saw ("80%").

    Attributes:
        strength: What it moves; a subclass sets what it begins with.
        below: Whether the last round's entropy was below the target.
    """

    figure: ClassVar[str] = "strength"  #: name of its strength on the dashboard, under `entropy/`

    def __init__(self, target: Target = "80%") -> None:
        self.target = target
        self.strength = 0.0
        self.below = False
        self._first: float | None = None

    # ---- the loop ----

    def attach(self, loss: PolicyLoss) -> PolicyLoss:
        """Called once with the run's loss; returns the loss to learn with."""
        return loss

    def observe(self, entropy: float) -> None:
        """Takes a step after a round's rollouts, whose mean entropy a token this is, nats."""
        self._first = entropy if self._first is None else self._first
        self.below = entropy < self.goal
        if entropy != self.goal:
            self.strength = self.stepped(self.below)

    @abc.abstractmethod
    def stepped(self, below: bool) -> float:
        """The strength after a round whose entropy was below the target, or above it."""

    @property
    def goal(self) -> float:
        """The target, nats; NaN for a share before the first round."""
        nats, share = _parsed(self.target)
        return nats if share is None else share * (math.nan if self._first is None else self._first)

    # ---- what it does to a pass ----

    @property
    def entropy_gradient(self) -> bool:
        """Whether the next pass needs the gradient of its entropies."""
        return False

    def begin(self, rows: Sequence[Experience]) -> None:  # noqa: B027 - some need nothing
        """Told before every policy pass which rows it goes over, all slices together."""

    def advantages(self, advantages: Tensor, sampled_log_probs: Tensor) -> Tensor:
        """The advantages to learn from, [N] -> [N].

        Args:
            advantages: [N] each token's completion's advantage.
            sampled_log_probs: [N] ln p of each token under the policy that sampled, nats, no gradients.
        """
        return advantages

    def penalty(self, tokens: PassTokens) -> Tensor | None:
        """What is added to a slice's loss, if anything; the sums of a batch's slices add up to the batch's."""
        return None

    # ---- dashboard, checkpoint, settings ----

    def figures(self) -> dict[str, float]:
        """Dashboard figures of the last round."""
        return {"entropy/target": self.goal, f"entropy/{self.figure}": self.strength}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; plain values."""
        return {"strength": self.strength, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it back."""
        self.strength, self._first = state["strength"], state["first"]

    def problems(self, loss: PolicyLoss, policy_passes: int) -> list[str]:
        """What is wrong with the settings, or with this loss and number of passes, a sentence each."""
        nats, share = _parsed(self.target)
        if 0 < (nats if share is None else share) < math.inf:
            return []
        return [f'target must be a number of nats above 0 or a share such as "80%", but is {self.target!r}']


class RepoR(EntropyControl):
    """Advantages that lean towards unlikely tokens (REPO-R: arXiv:2603.11682, appendix D.2).

    A > 0:  max(0, A * (1 - zeta * logp))        A < 0:  min(0, A * (1 + zeta * logp))

    With zeta above 0 a good token counts the more the less likely it was, and a bad one the less. Zeta doubles in every
    round whose entropy is below the target; above it, zeta halves down to `least`, changes its sign there, and doubles
    on the other side.

    Args:
        target: See `EntropyControl`.
        least: Smallest size of zeta, with which it begins.
        most: Largest.
    """

    figure = "zeta"

    def __init__(self, target: Target = "80%", least: float = 1e-4, most: float = 0.05) -> None:
        super().__init__(target)
        self.least, self.most = least, most
        self.strength = least

    def stepped(self, below: bool) -> float:
        wanted = 1.0 if below else -1.0
        size = abs(self.strength)
        if self.strength * wanted > 0:
            return wanted * min(2 * size, self.most)
        return -wanted * max(size / 2, self.least) if size > self.least else wanted * self.least

    def advantages(self, advantages: Tensor, sampled_log_probs: Tensor) -> Tensor:
        return advantages * (1 - self.strength * advantages.sign() * sampled_log_probs).clamp_min(0)

    def problems(self, loss: PolicyLoss, policy_passes: int) -> list[str]:
        return super().problems(loss, policy_passes) + _bounds_problems(self.least, self.most)


class Adapo(EntropyControl):
    """An upper clip that moves (after ADAPO, arXiv:2603.11682): higher while the entropy is below the target.

    It starts at the loss's own `high`. Bounds and step are this project's choice.

    Args:
        target: See `EntropyControl`.
        least: Lowest upper clip.
        most: Highest.
        step: By how much it moves in a round.
    """

    figure = "clip_high"

    def __init__(self, target: Target = "80%", least: float = 0.2, most: float = 0.5, step: float = 0.01) -> None:
        super().__init__(target)
        self.least, self.most, self.step = least, most, step

    def attach(self, loss: PolicyLoss) -> PolicyLoss:
        own: Any = copy.copy(loss)  # its clip moves, and another run's loss may be the very same object
        self._loss, self.strength = own, float(own.high)
        return self._loss

    def stepped(self, below: bool) -> float:
        return min(max(self.strength + (self.step if below else -self.step), self.least), self.most)

    def begin(self, rows: Sequence[Experience]) -> None:
        self._loss.high = self.strength

    def problems(self, loss: PolicyLoss, policy_passes: int) -> list[str]:
        found = super().problems(loss, policy_passes) + _bounds_problems(self.least, self.most) + _step(self.step)
        if not hasattr(loss, "high"):
            found.append(f"it moves the upper clip of ClippedLoss, which {type(loss).__name__} does not have (`high`)")
        return found + _single_pass_problems(policy_passes, "no ratio reaches a clip")


class EntropyBonus(EntropyControl):
    """A bonus on the entropy, whose coefficient adapts (after Skywork-OR1, arXiv:2505.22312).

    penalty = -coefficient * mean |A| * sum_t entropy_t * weight_t        in rounds below the target, else nothing

    The coefficient goes up by a step in every round below the target and down in every round above it. The batch's mean
    |A| keeps the bonus in proportion: beside advantages of 0.01 a coefficient made for those of 1 would be all there
    is to learn.

    Args:
        target: See `EntropyControl`.
        most: Largest coefficient; the least is 0, with which it begins.
        step: By how much it moves in a round.
    """

    figure = "coefficient"

    def __init__(self, target: Target = "80%", most: float = 0.1, step: float = 0.005) -> None:
        super().__init__(target)
        self.most, self.step = most, step

    def stepped(self, below: bool) -> float:
        return min(max(self.strength + (self.step if below else -self.step), 0.0), self.most)

    @property
    def entropy_gradient(self) -> bool:
        return self.below and self.strength > 0

    def begin(self, rows: Sequence[Experience]) -> None:
        self._scale = mean_advantage(rows)

    def penalty(self, tokens: PassTokens) -> Tensor | None:
        if not self.entropy_gradient:
            return None
        return -self.strength * self._scale * (tokens.entropies * tokens.weights).sum()

    def problems(self, loss: PolicyLoss, policy_passes: int) -> list[str]:
        return super().problems(loss, policy_passes) + _bounds_problems(self.most, self.most) + _step(self.step)


class KlCov(EntropyControl):
    """A KL penalty on the tokens that cost most entropy (after KL-Cov, arXiv:2505.22617).

    covariance_t = (logp_t - mean logp) * (A_t - mean A)      when sampled; means over the batch's tokens
    penalty      = coefficient * mean |A| * sum_t (ratio_t - 1 - ln ratio_t) * weight_t    over its largest ones

    ratio - 1 - ln ratio is never negative and estimates KL(policy that sampled || policy now). The coefficient doubles
    in every round below the target and halves in every round above it.

    Args:
        target: See `EntropyControl`.
        share: Share of the batch's tokens, rounded up; the paper's 0.002 would be one or two tokens of a small batch.
        least: Least coefficient.
        most: Largest.
        start: The one it begins with.
    """

    figure = "coefficient"

    def __init__(
        self, target: Target = "80%", share: float = 0.02, least: float = 0.01, most: float = 10.0, start: float = 1.0
    ) -> None:
        super().__init__(target)
        self.share, self.least, self.most, self.start = share, least, most, start
        self.strength = start

    def stepped(self, below: bool) -> float:
        return min(max(self.strength * (2.0 if below else 0.5), self.least), self.most)

    def begin(self, rows: Sequence[Experience]) -> None:
        self._scale = mean_advantage(rows)
        if not rows:
            return
        log_probs = torch.cat([row.old_log_probs for row in rows]).double()
        advantages = torch.cat([torch.full((len(r.completion_ids),), r.advantage) for r in rows]).double()
        self._means = float(log_probs.mean()), float(advantages.mean())
        covariances = self._covariances(log_probs, advantages)
        self._threshold = float(covariances.topk(math.ceil(self.share * len(covariances))).values[-1])

    def penalty(self, tokens: PassTokens) -> Tensor | None:
        covariances = self._covariances(tokens.sampled_log_probs.double(), tokens.advantages.double())
        # zero before it goes through exp: the gradient of what is left out must not be 0 * inf
        log_ratio = (tokens.log_probs - tokens.old_log_probs).masked_fill(covariances < self._threshold, 0.0)
        return self.strength * self._scale * ((log_ratio.exp() - 1 - log_ratio) * tokens.weights).sum()

    def _covariances(self, log_probs: Tensor, advantages: Tensor) -> Tensor:
        # of float32 values in float64, token by token: the same number in whatever slice a token stands
        return (log_probs - self._means[0]) * (advantages - self._means[1])

    def problems(self, loss: PolicyLoss, policy_passes: int) -> list[str]:
        found = super().problems(loss, policy_passes) + _bounds_problems(self.least, self.most)
        if not 0 < self.share <= 1:
            found.append(f"share must lie above 0 and be at most 1, but is {self.share}")
        if not self.least <= self.start <= self.most:
            found.append(f"start must lie between least and most, but is {self.start}")
        return found + _single_pass_problems(policy_passes, "a KL from the policy that sampled has no gradient there")


def mean_advantage(rows: Sequence[Experience]) -> float:
    """Mean |A| of the rows' tokens, each counted by its weight in the loss; 0 without rows."""
    weights = [
        row.weight * (len(row.completion_ids) - row.thought_tokens) + row.thought_weight * row.thought_tokens
        for row in rows
    ]
    total = math.fsum(weights)
    return math.fsum(w * abs(row.advantage) for w, row in zip(weights, rows, strict=True)) / total if total else 0.0


def _parsed(target: Target) -> tuple[float, float | None]:
    """(nats, None), or (NaN, share); (NaN, None) for what is neither."""
    if isinstance(target, str) and (found := re.fullmatch(r"\s*([\d.]+)\s*%\s*", target)):
        return math.nan, _number(found[1]) / 100
    return _number(target), None


def _number(text: float | str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _bounds_problems(least: float, most: float) -> list[str]:
    if 0 < least <= most < math.inf:
        return []
    return [f"least and most must be finite numbers above 0, least the smaller, but are {least} and {most}"]


def _step(step: float) -> list[str]:
    return [] if 0 < step < math.inf else [f"step must be a finite number above 0, but is {step}"]


def _single_pass_problems(policy_passes: int, why: str) -> list[str]:
    if policy_passes > 1:
        return []
    return [
        f"it does nothing with learn.policy_passes 1, since on the first pass the policy is the one that sampled and "
        f"{why}: set 2 or more passes, or take RepoR or EntropyBonus"
    ]
