"""Runs the policy: rollouts and policy passes, in the way that the model allows and inside the memory there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase

from squish_pl.lm.device import device_name
from squish_pl.lm.halving import within
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.caps import completion_caps, least_tokens
from squish_pl.policy.memory.plan import MemoryPlan
from squish_pl.policy.passes import Compiling, PassesName
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings, sample
from squish_pl.policy.trials import choose_compiling, choose_passes, take_passes
from squish_pl.types import Prompt, Rollouts

log = logging.getLogger(__name__)

_ADVICE = "lower model.rollout.group_size, data.max_tokens or model.rollout.budgets, or take a smaller model"


class Engine:
    """A backbone with its way and its memory plan.

    Args:
        backbone: The model.
        plan: Sizes of what runs at a time.
        template: Tells where thought and summary end.
        passes: Whether a group shares its prompt's pass.
        compiling: Whether the decoder's layers are compiled.
        advice: What a person can do when not even one group fits into memory.
    """

    def __init__(
        self,
        backbone: Backbone,
        plan: MemoryPlan,
        template: PromptTemplate,
        passes: PassesName,
        compiling: Compiling = False,
        advice: str = _ADVICE,
    ) -> None:
        self.backbone, self.plan, self.template = backbone, plan, template
        self.passes, self.compiling, self.advice = passes, compiling, advice
        self._ready_on: torch.device | None = None  # where way and plan were chosen
        self._before: Mapping[str, Any] = {}  # what the run before had chosen
        self._told_of_cap = False

    def get_ready(self) -> None:
        """Chooses way and memory plan, once the model lies on its device for certain; again when it has moved."""
        policy, device = self.backbone.policy, self.backbone.device
        if self._ready_on == device:
            return
        before, self._before = self._before, {}
        same_device = before.get("device") == device_name(device)
        settled = _settled_passes(before) if same_device else None
        if self.passes == "auto" and settled is not None:
            take_passes(policy, settled)  # a resumed run goes on in the same way
        elif not policy.has_passes or self._ready_on is not None:
            choose_passes(policy, self.passes)
        choose_compiling(self.backbone, self.compiling)
        self.plan.settle(before["plan"] if same_device else None)
        self._ready_on = device

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with; plain values."""
        return {
            "device": device_name(self.backbone.device),
            "passes": self.backbone.policy.passes.name if self.backbone.policy.has_passes else None,
            "plan": self.plan.state(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on as another run did, if on the same kind of device."""
        self._before, self._ready_on = state, None

    def sample(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        settings: SamplingSettings,
        seeds: Sequence[int],
        counter: PreTrainedTokenizerBase | None = None,
    ) -> list[Rollouts]:
        """A group of completions for every prompt, as many groups at a time as fit; see `policy.sample`.

        Raises:
            DataError: A prompt is too long for the model.
            SquishError: Not even one group fits into memory.
        """
        caps = self.caps(prompts, settings, counter)
        self.get_ready()
        groups: list[Rollouts] = []

        def work() -> list[Rollouts]:
            left = prompts[len(groups) :]
            rows = self.plan.rows([len(p.token_ids) for p in left], group_size, max(caps[len(groups) :]))
            self.plan.rollout.take(rows)
            count = rows // group_size
            some = seeds[len(groups) : len(groups) + count]
            policy, tokenizer = self.backbone.policy, self.backbone.tokenizer
            return sample(policy, tokenizer, self.template, left[:count], group_size, settings, some, counter)

        while len(groups) < len(prompts):
            groups += within(self.plan.rollout, self.plan.device, work, group_size, self.advice)
        return groups

    def caps(
        self, prompts: Sequence[Prompt], settings: SamplingSettings, counter: PreTrainedTokenizerBase | None = None
    ) -> list[int]:
        """Most new tokens behind each prompt; a number that is too small for a budget is told once.

        Raises:
            DataError: A prompt is too long for the model.
        """
        tokenizer, given = self.backbone.tokenizer, settings.max_new_tokens
        caps = completion_caps(prompts, given, self.template, tokenizer, self.backbone.context_length, counter)
        for prompt in () if given is None or self._told_of_cap else prompts:
            least = least_tokens(prompt, self.template, tokenizer, counter)
            if given is not None and least > given:
                self._told_of_cap = True
                document = prompt.document
                log.warning(
                    "a summary of %s of document %r takes some %s tokens, but max_new_tokens is %s: longer ones are "
                    "cut off unfinished; raise it, or leave it out",
                    prompt.budget,
                    document.id or document.text[:40],
                    least,
                    given,
                )
                break
        return caps


def _settled_passes(state: Mapping[str, Any]) -> str | None:
    """The way an earlier run had settled on; None if it never came to that."""
    if "grouped" in state:  # checkpoints of before squish-pl 0.2
        return None if state["grouped"] is None else "shared_prefix" if state["grouped"] else "padded"
    return cast("str | None", state["passes"])
