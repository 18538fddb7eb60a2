"""Policy passes: the loss and gradient of a whole batch of rollouts, slice by slice.

    rows -> slices by a token budget -> log-probs, entropies -> loss -> gradients of the adapter add up

However a batch is sliced, its gradient is the same; the memory plan says how large a slice may be and how many layers
compute their activations again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from squish_pl.lm.halving import within
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.plan import MemoryPlan
from squish_pl.rl.advantages import Normalisation
from squish_pl.rl.entropy_control import EntropyControl, PassTokens
from squish_pl.rl.experience import micro_batches
from squish_pl.rl.figures import PassTotals
from squish_pl.rl.losses import LossParts, PolicyLoss
from squish_pl.rl.phases import POLICY, PhaseClock
from squish_pl.rl.rewards import InvalidRule, LengthRule
from squish_pl.rl.shares import own_rows, whole_pass
from squish_pl.types import Experience

OldLogProbs = Literal["sampling", "first_pass"]


@dataclass(frozen=True)
class LearnSettings:
    """How a batch of rollouts is learnt from.

    Attributes:
        advantage: "mean" (reward minus group mean), or "mean_std" (divided by the group's deviation too).
        invalid: What an unparsable, empty or over-budget summary earns.
        length: What is taken from a summary that leaves its budget unused.
        policy_passes: Optimiser steps on each batch of rollouts; `max_steps` of the trainer counts these.
        old_log_probs: "sampling" takes them as drawn; "first_pass" takes the first policy pass's, so that its ratio is
            exactly 1 where sampling and training round differently (bfloat16); this is the original's own rule.
        thought_share: What the tokens of a group's thoughts count together in the loss (`model.prompt.thinking`), where
            those of its summaries count 1; with 0 thoughts are not learnt from.
    """

    advantage: Normalisation = "mean"
    invalid: InvalidRule = field(default_factory=InvalidRule)
    length: LengthRule = field(default_factory=LengthRule)
    policy_passes: int = 1
    old_log_probs: OldLogProbs = "sampling"
    thought_share: float = 1.0

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [f"learn.invalid.{problem}" for problem in self.invalid.problems()]
        found += [f"learn.length.{problem}" for problem in self.length.problems()]
        if self.policy_passes < 1:
            found.append(f"learn.policy_passes must be at least 1, but is {self.policy_passes}")
        if not 0 <= self.thought_share < math.inf:
            found.append(f"learn.thought_share must be a finite number of at least 0, but is {self.thought_share}")
        return found


class Learner:
    """Adds up the gradient of a batch.

    Args:
        backbone: The policy's.
        plan: Sizes of the slices.
        clock: Counts the tokens.
        loss: What a pass minimises.
        temperature: The one the rows were sampled with.
        old_log_probs: "sampling" takes them as drawn; "first_pass" takes the first pass's, so that its ratio is 1.
        backward: Sends a loss backward.
        control: What holds the entropy near a target, if anything.
    """

    def __init__(
        self,
        backbone: Backbone,
        plan: MemoryPlan,
        clock: PhaseClock,
        loss: PolicyLoss,
        temperature: float,
        old_log_probs: OldLogProbs = "sampling",
        backward: Callable[[Tensor], None] = torch.Tensor.backward,
        control: EntropyControl | None = None,
    ) -> None:
        self.backbone, self.plan, self.clock = backbone, plan, clock
        self.loss, self.temperature, self.old_log_probs, self.backward = loss, temperature, old_log_probs, backward
        self.control = control

    def accumulate(self, rows: Sequence[Experience], first: bool = False) -> PassTotals:
        """One policy pass: sets the adapter's gradients to those of the whole batch.

        Each process works on its share of the rows; what is returned is that of all of them.

        Args:
            rows: All completions that teach something, group by group.
            first: Whether the policy is still the one that sampled.

        Raises:
            SquishError: Not even a single completion fits into memory.
        """

        def work() -> PassTotals:
            for parameter in self.backbone.adapter_parameters():
                parameter.grad = None  # a slice that ran out of memory may have left a part of its own
            totals = PassTotals()
            with self.backbone.mode(training=True):  # until backward has ended, which may compute layers again
                for part in micro_batches(own, self._tokens, self.plan.learning.value, self.plan.whole):
                    self._learn(part, first, totals)
            return totals

        own = own_rows(rows)
        if self.control is not None:
            self.control.begin(rows)
        self.plan.settle_learning()
        least = max((self._tokens([row]) for row in own), default=1)
        advice = "lower data.max_tokens, model.rollout.budgets or model.lora.r, or take a smaller model"
        totals = within(self.plan.learning, self.plan.device, work, least, advice)
        self.clock.tokens[POLICY] += sum(len(row.prompt_ids) + len(row.completion_ids) for row in own)
        return whole_pass(
            rows, totals, self.backbone.adapter_parameters(), first and self.old_log_probs == "first_pass"
        )

    def as_first_pass(self, rows: Sequence[Experience], totals: PassTotals) -> list[Experience]:
        """The rows with the log-probs of the first pass for old ones, where that is wanted."""
        if self.old_log_probs != "first_pass":
            return list(rows)
        return [replace(r, old_log_probs=p) for r, p in zip(rows, totals.log_probs, strict=True)]

    def _tokens(self, rows: Sequence[Experience]) -> int:
        return self.backbone.policy.passes.tokens(rows)

    def _learn(self, part: Sequence[Experience], first: bool, totals: PassTotals) -> None:
        tokens = self._tokens(part)
        self.plan.learning.take(tokens)
        self.backbone.checkpoint_layers(self.plan.checkpointed(tokens))
        control = self.control
        steered = control is not None and control.entropy_gradient
        log_probs, entropies = self.backbone.policy.passes.log_probs(part, self.temperature, steered)
        lengths = torch.tensor([len(row.completion_ids) for row in part])
        sampled = torch.cat([row.old_log_probs for row in part]).to(log_probs)
        old = log_probs.detach() if first and self.old_log_probs == "first_pass" else sampled
        advantages = torch.tensor([row.advantage for row in part], dtype=torch.float64)
        advantages = advantages.repeat_interleave(lengths).to(log_probs)
        weights = torch.cat([row.token_weights for row in part]).to(log_probs)
        loss_function = self._compiled_loss if self.backbone.compiled else self.loss
        learnt = advantages if control is None else control.advantages(advantages, sampled)
        loss = loss_function(log_probs, old, learnt, weights, entropies.detach())
        flat = PassTokens(log_probs, old, sampled, advantages, weights, entropies)
        penalty = None if control is None else control.penalty(flat)
        self.backward(loss.loss if penalty is None else loss.loss + penalty)
        totals.add(loss, entropies.detach(), log_probs.detach(), sampled, lengths)
        if penalty is not None:
            totals.penalty = (totals.penalty or 0.0) + float(penalty.detach())

    @cached_property
    def _compiled_loss(self) -> Callable[..., LossParts]:
        return torch.compile(self.loss.__call__, dynamic=True)
