"""What can be wrong with a run, found before any work is done."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from squish_pl.errors import BudgetError, ModelError
from squish_pl.language_model import resolve_base
from squish_pl.policy.adapter import is_adapter_folder
from squish_pl.score.budget import Budget
from squish_pl.tokens import count_tokens
from squish_pl.types import Document

if TYPE_CHECKING:
    from squish_pl.module import SquishModule


def module_problems(m: SquishModule) -> list[str]:
    """Everything wrong with a module's settings, a sentence each."""
    found = []
    for key, names in (("budgets", m.budget_names), ("validation_budgets", m.validation_budget_names)):
        if not names:
            found.append(f"model.{key} must name at least one budget")
        found += [f"model.{key}: {problem}" for problem in Budget.problems(names)]
    if m.group_size < 2:
        found.append(
            f"model.group_size must be at least 2, but is {m.group_size}: summaries are judged against their group"
        )
    for key, value in (("policy_passes", m.policy_passes), ("micro_batch_tokens", m.micro_batch_tokens)):
        if value < 1:
            found.append(f"model.{key} must be at least 1, but is {value}")
    if m.validation_temperature < 0:
        found.append(f"model.validation_temperature must not be negative, but is {m.validation_temperature}")
    if m.sampling.temperature == 0:
        found.append("model.sampling.temperature must be above 0: equal summaries teach nothing")
    for section in ("lora", "sampling", "reward", "clip", "optimizer_settings"):
        for name, value in vars(getattr(m, section)).items():
            if isinstance(value, float) and not math.isfinite(value):
                found.append(
                    f"model.{section.removesuffix('_settings')}.{name} must be a finite number, but is {value}"
                )
    if not m.base.strip():
        found.append("model.base must name a base model: a hub id, a folder or package:NAME")
    if m.adapter is not None and not is_adapter_folder(Path(m.adapter).expanduser()):
        found.append(
            f"model.adapter: expected a PEFT adapter folder (with adapter_config.json), but {m.adapter!r} is none"
        )
    try:
        resolve_base(m.base)
    except ModelError as error:
        found.append(f"model.base: {error}")
    for settings in (m.lora, m.prompt, m.score, m.sampling, m.reward, m.clip, m.optimizer_settings, m.memory):
        found += [f"model.{problem}" for problem in settings.problems()]
    return found


def run_problems(module: SquishModule, trainer: Any) -> list[str]:
    """What is wrong between the parts of a training run, a sentence each."""
    found = []
    for checkpoint in (c for c in trainer.callbacks if hasattr(c, "monitor")):
        keys = ["squish", "novel", "lead", "lead_novel"]
        budgets = [str(budget) for budget in map(_budget, module.validation_budget_names) if budget is not None]
        known = [f"val/{key}@{budget}" for key in keys for budget in budgets]
        known += [f"val/{key}" for key in (*keys, "parsed", "within_budget")]
        if checkpoint.monitor not in known:
            found.append(f"checkpoint.monitor must be one of {', '.join(known)}, but is {checkpoint.monitor!r}")
    return found + trainer_problems(trainer)


def trainer_problems(trainer: Any) -> list[str]:
    """What is wrong with the trainer for any command, a sentence each."""
    found = []
    if trainer.precision != "32-true":
        found.append(
            f"trainer.precision must stay 32-true, but is {trainer.precision}: set model.dtype for the model's weights"
        )
    if trainer.world_size > 1:
        found.append(f"a run takes one device, but the trainer has {trainer.world_size}: set trainer.devices to 1")
    return found


def context_problems(
    module: SquishModule, tokenizer: PreTrainedTokenizerBase, context: int, max_tokens: int | None
) -> list[str]:
    """Whether the longest document fits into the model beside prompt, summary and completion.

    Args:
        module: With its prompt, score and sampling settings.
        tokenizer: The model's.
        context: The longest row the model can read, tokens.
        max_tokens: The longest document, tokens; None if there is no limit (then each prompt is checked as it comes).
    """
    budget = Budget.parse("999999 chars")
    around = len(module.prompt.build(Document(""), budget, tokenizer).token_ids)
    new = module.sampling.max_new_tokens
    frame = count_tokens(tokenizer, module.score.template.render("")) + 1
    # behind the frame stands a summary, or, as the copying baseline, at most the largest budget's share of the document
    share = max([float(b.value) for b in map(Budget.parse, module.validation_budget_names) if b.unit.is_share] or [0.0])
    frame += max(0, int(share * (max_tokens or 0)) - new)
    need = max(around, frame) + new + (max_tokens or 0)
    if need <= context:
        return []
    what = f"prompt ({around} tokens around the document) and model.sampling.max_new_tokens ({new})"
    if max_tokens is not None:
        what = f"data.max_tokens ({max_tokens}), {what}"
        room = context - max(around, frame) - new
        advice = f"set data.max_tokens to {room} or less" if room > 0 else "set model.sampling.max_new_tokens lower"
    else:
        advice = "set model.sampling.max_new_tokens lower"
    return [f"{what} take {need} tokens together, but the model reads {context}: {advice}"]


def _budget(text: str) -> Budget | None:
    try:
        return Budget.parse(text)
    except BudgetError:
        return None  # reported where it belongs
