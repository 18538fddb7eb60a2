"""The memory plan of a run: how much goes through the model at a time, and what is kept for backward.

Settings name the most that is ever worth it; the plan takes what fits of that, and an out-of-memory error takes half
of what did not. None of it changes a gradient, only memory and speed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional

import torch

from squish_pl.lm.device import device_name, free_bytes, total_bytes, used_bytes
from squish_pl.lm.halving import Limit
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.passes import Compiling, PassesName
from squish_pl.score.scorer import CPU_BATCH_TOKENS

log = logging.getLogger(__name__)

# On a CPU the C library leaves holes between tensors: 7.7 GB were resident where 3.4 GB of tensors were counted
_CPU_SHARE = 0.45

Checkpointing = Literal["auto", "none", "selective", "full"]


@dataclass(frozen=True)
class MemorySettings:
    """What the run may take of the device's memory (of the machine's, on a CPU), and how it uses it.

    None of it changes a gradient, only memory and speed.

    Attributes:
        margin: Share of the memory that is left alone, for what cannot be foreseen.
        limit_gb: Most that a process takes in all, GB; by default what is free.
        checkpointing: Layers that compute their activations again in backward instead of keeping them: "full" all,
            "selective" half of them, "none"; "auto" as few as fit into memory.
        micro_batch_tokens: Most tokens in one forward and backward pass: as many groups, or completions of one group,
            as fit. Less where memory is short.
        max_rows: Most sequences that are decoded at a time.
        passes: "shared_prefix" runs each prompt once for all its completions, exactly; "padded" once for each; "auto"
            shares wherever the model and device allow it.
        compile: torch.compile of every decoder layer and of the loss; "auto" on a GPU, where it is worth its minutes.
    """

    margin: float = 0.1
    limit_gb: Optional[float] = None
    checkpointing: Checkpointing = "auto"
    micro_batch_tokens: int = 32_768
    max_rows: int = 256
    passes: PassesName = "auto"
    compile: Compiling = "auto"

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not 0 <= self.margin < 1:
            found.append(f"memory.margin must be at least 0 and below 1, but is {self.margin}")
        if self.limit_gb is not None and not self.limit_gb > 0:
            found.append(f"memory.limit_gb must be above 0, but is {self.limit_gb}")
        return found + [
            f"memory.{name} must be at least 1, but is {value}"
            for name, value in (("micro_batch_tokens", self.micro_batch_tokens), ("max_rows", self.max_rows))
            if value < 1
        ]


class MemoryPlan:
    """Chooses sizes from free memory and from what each phase was measured to take.

    Args:
        costs: Of the model at hand.
        settings: What may be taken, and the most that is worth it.
        scoring: The scorer's limit; it is lowered where less fits.
        offload: Whether the optimiser's state stays in the CPU's memory.
        of_node: Gathers a value of all processes on the machine that run this plan; the plan is the smallest of theirs.

    Attributes:
        rollout: Limit on sequences decoded together.
        scoring: Limit on tokens of a forward pass of the reference.
        learning: Limit on tokens of a policy pass.
        whole: Most tokens of a policy pass that takes several groups: packing them is not worth recomputing for.
        available: Bytes for the work of a phase, beyond weights, gradients and optimiser state; None until `settle`.
    """

    def __init__(
        self,
        costs: Costs,
        settings: MemorySettings,
        scoring: Limit,
        offload: bool = False,
        of_node: Callable[[Any], list[Any]] = lambda value: [value],
    ) -> None:
        self.costs, self.checkpointing = costs, settings.checkpointing
        self._settings, self._offload, self._of_node = settings, offload, of_node
        self.rollout = Limit("rollout", "rows", settings.max_rows)
        self.scoring = scoring
        self.learning = Limit("policy pass", "tokens", settings.micro_batch_tokens, self._ran_out)
        self.whole = settings.micro_batch_tokens
        self.available: int | None = None
        self._learning_settled = False

    @classmethod
    def for_writing(cls, costs: Costs, settings: MemorySettings) -> MemoryPlan:
        """The plan of a model that only writes: nothing is scored or learnt."""
        return cls(costs, settings, Limit("scoring pass", "tokens", 0))

    @property
    def device(self) -> torch.device:
        """Where the model lies now."""
        return self.costs.device

    def settle(self, before: Mapping[str, Any] | None = None) -> None:
        """Chooses rollouts and scoring, from the memory that is free now: nothing but the weights should be in it.

        Args:
            before: The plan of the run that is resumed (`state`), which is kept if it still fits.
        """
        self._learning_settled = False
        free, available = map(min, zip(*self._of_node((free_bytes(self.device), self._free())), strict=True))
        if before is not None and before["available"] is not None and before["available"] <= free:
            self.available = before["available"]
            for name in ("rollout", "scoring", "learning"):
                limit: Limit = getattr(self, name)
                limit.value = min(limit.value, before[name])
            self.whole = min(self.learning.value, before["whole"])
            self._learning_settled = before["learning_settled"]
        else:
            self.available = available
            most = min(self.scoring.value, CPU_BATCH_TOKENS) if self.device.type == "cpu" else self.scoring.value
            self.scoring.value = self._most(most, self.costs.scoring) if most else 0
        log.info(
            "memory plan: %.1f GB to work in beside %.1f GB of weights on %s; %sat most %s rows decoded together",
            self.available / 1e9,
            self.costs.weights / 1e9,
            device_name(self.device),
            f"{self.scoring.value:,} tokens a scoring pass, " if self.scoring.value else "",
            self.rollout.value,
        )

    def settle_learning(self) -> None:
        """Chooses the size of policy passes, before the first one."""
        if self._learning_settled or self.available is None:
            return
        least, most = self._layers_range()
        self.whole = self._most(self.learning.value, lambda n: self.costs.learning(n, least))
        # what fits with less kept for backward is found out only where it matters
        if self.whole < self.learning.value and most > least:
            self.learning.value = self._most(self.learning.value, lambda n: self.costs.learning(n, most))
        else:
            self.learning.value = self.whole
        self._learning_settled = True
        large = f", up to {self.learning.value:,} for a large group" if self.learning.value > self.whole else ""
        log.info(
            "memory plan: %s tokens a policy pass%s; gradient checkpointing: %s",
            f"{self.whole:,}",
            large,
            "of as few layers as fit" if self.checkpointing == "auto" else self.checkpointing,
        )

    def rows(self, prompt_lengths: Sequence[int], group_size: int, new_tokens: int) -> int:
        """Sequences to decode together: whole groups, as many as fit, and at least one.

        Before `settle`, as many as the limit allows.

        Args:
            prompt_lengths: Tokens of the prompts in hand.
            group_size: G.
            new_tokens: Cap on a completion.
        """
        longest = max(prompt_lengths)

        def need(groups: int) -> int:
            return self.costs.rollout(groups, longest, groups * group_size, new_tokens)

        groups = min(len(prompt_lengths), max(1, self.rollout.value // group_size))
        return group_size * (groups if self.available is None else self._most(groups, need))

    def checkpointed(self, tokens: int) -> int:
        """Layers to compute again in backward, for a policy pass of so many tokens: as few as fit."""
        least, most = self._layers_range()
        if self.available is None:
            return least
        for layers in range(least, most):
            if self.costs.learning(tokens, layers) <= self.available:
                return layers
        return most

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with; plain values."""
        return {
            "available": self.available,
            "rollout": self.rollout.value,
            "scoring": self.scoring.value,
            "learning": self.learning.value,
            "whole": min(self.whole, self.learning.value),
            "learning_settled": self._learning_settled,
        }

    def _free(self) -> int:
        settings, total = self._settings, total_bytes(self.device)
        free = free_bytes(self.device) - settings.margin * total
        if self.device.type == "cpu":  # processes on a CPU share the machine's memory
            free /= len(self._of_node(None))
        if settings.limit_gb is not None:
            free = min(free, settings.limit_gb * 1e9 - used_bytes(self.device))
        if self.device.type == "cpu":
            free *= _CPU_SHARE
        resident = self.costs.gradients + (0 if self._offload else self.costs.optimizer_state)
        return max(0, int(free) - resident)

    def _ran_out(self, tokens: int) -> bool:
        """After running out in a policy pass: what it was thought to need is more than there is."""
        if self.available is None:
            return False
        before = self.checkpointed(tokens)
        self.available = min(self.available, self.costs.learning(tokens, before)) // 2
        return self.checkpointed(tokens) > before

    def _layers_range(self) -> tuple[int, int]:
        layers = self.costs.layers
        ranges = {"auto": (0, layers), "none": (0, 0), "selective": ((layers + 1) // 2,) * 2, "full": (layers,) * 2}
        least, most = ranges[self.checkpointing]
        return least, most

    def _most(self, most: int, need: Callable[[int], int]) -> int:
        """The largest number from 1 to `most` whose need fits; 1 if none does."""
        assert self.available is not None
        low, high = 1, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if need(middle) <= self.available else (low, middle - 1)
        return low
