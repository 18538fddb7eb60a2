"""The warm start: rounds of learning from good summaries before the reinforcement begins.

    prompts -> groups (sampled, or given by the data) -> rewards -> the best that use the budget -> cross-entropy

Learning from one's own best samples is expert iteration (arXiv:1705.08439), with a single iteration a round.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Optional

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.lm.cutting import cut_to_sentences
from squish_pl.lm.tokens import encode
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.watch import completion_text
from squish_pl.rl.experience import group_rows
from squish_pl.rl.figures import PassTotals
from squish_pl.rl.losses import LossParts, PolicyLoss
from squish_pl.rl.optimizer import OptimizerSettings
from squish_pl.rl.rewards import GroupRewards
from squish_pl.types import Experience, Finish, Prompt, Rollouts, joined

log = logging.getLogger(__name__)

Source = Literal["samples", "highlights"]

_WITHOUT = {
    "samples": "no sample was valid and used model.warm_start.least_used of its budget: lower it, or take larger "
    "groups (model.warm_start.group_size)",
    "highlights": "no document had highlights that use model.warm_start.least_used of its budget: lower it or "
    "model.rollout.budgets, or name summaries with data.highlights",
}


@dataclass(frozen=True)
class WarmStartSettings:
    """Rounds before the reinforcement that learn good summaries by cross-entropy.

    A base model seldom closes a summary, and then far from its limit; reinforcement alone is slow to find that out.

    Attributes:
        rounds: How many; 0 leaves the warm start out. They are the first of the run's, and their optimiser steps count
            in trainer.max_steps: warm_start.rounds x warm_start.passes + further rounds x learn.policy_passes.
        source: "samples": the best of each document's own samples, by model.rewards; "highlights": the summaries that
            come with the documents (their field `highlights`, or data.highlights), cut at a sentence's end to the
            round's budget.
        keep: Summaries that are learnt of each group: a share of it if below 1, rounded up, else their number.
        least_used: Share of the budget that a summary must use to be learnt.
        group_size: Samples a document; by default rollout.group_size.
        learning_rate: By default optimizer.learning_rate.
        passes: Optimiser steps on each round's summaries; by default learn.policy_passes.
    """

    rounds: int = 0
    source: Source = "samples"
    keep: float = 0.25
    least_used: float = 0.6
    group_size: Optional[int] = None
    learning_rate: Optional[float] = None
    passes: Optional[int] = None

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if self.rounds < 0:
            found.append(f"warm_start.rounds must be at least 0, but is {self.rounds}")
        if not 0 < self.keep < math.inf or (self.keep > 1 and self.keep != int(self.keep)):
            found.append(f"warm_start.keep must be a share below 1 or a whole number above 0, but is {self.keep}")
        if not 0 <= self.least_used <= 1:
            found.append(f"warm_start.least_used must be a number from 0 to 1, but is {self.least_used}")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            found.append(f"warm_start.learning_rate must be a number above 0, but is {self.learning_rate}")
        return found + [
            f"warm_start.{name} must be at least {least}, but is {value}"
            for name, value, least in (("group_size", self.group_size, 2), ("passes", self.passes, 1))
            if value is not None and value < least
        ]

    def kept_of(self, size: int) -> int:
        """How many summaries of a group are learnt at most."""
        return max(1, math.ceil(self.keep * size - 1e-9)) if self.keep < 1 else int(self.keep)

    def describe(self, group_size: int) -> str:
        """What the warm start is, in a line."""
        rounds = f"{self.rounds} round" + ("" if self.rounds == 1 else "s")
        what = f"the best of each document's {self.group_size or group_size} samples"
        if self.source == "highlights":
            what = "the summaries that come with the documents"
        return f"{rounds} of learning {what}, where they use {self.least_used:.0%} of their budget"

    def optimizer(self, settings: OptimizerSettings) -> OptimizerSettings:
        """The optimiser's settings while the warm start lasts."""
        return settings if self.learning_rate is None else replace(settings, learning_rate=self.learning_rate)

    def rounds_of(self, steps: int, policy_passes: int) -> int:
        """Rounds of a run of so many optimiser steps; one that is begun counts."""
        passes = self.passes or policy_passes
        warm = min(self.rounds, -(-steps // passes))
        return warm + max(0, -(-(steps - self.rounds * passes) // policy_passes))


class CrossEntropy(PolicyLoss):
    """-sum_t logp_t * A * weight_t: with A = 1, the mean of -ln p over the tokens of completions to learn."""

    def __call__(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, entropies: Tensor
    ) -> LossParts:
        return LossParts(-(log_probs * advantages * weights).sum(), {})


# ---- the summaries that come with the documents ----


def given_groups(
    prompts: Sequence[Prompt], template: PromptTemplate, tokenizer: PreTrainedTokenizerBase, caps: Sequence[int]
) -> list[Rollouts]:
    """A group of one for each prompt whose document has highlights of which at least a sentence can be used.

    Args:
        prompts: D prompts.
        template: Tells how a summary is closed.
        tokenizer: The policy's.
        caps: Most tokens of each prompt's completion.
    """
    groups = (given_group(prompt, template, tokenizer, cap) for prompt, cap in zip(prompts, caps, strict=True))
    return [group for group in groups if group is not None]


def given_group(
    prompt: Prompt, template: PromptTemplate, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> Rollouts | None:
    """The highlights as the completion that the prompt asks for: the summary, then the closing tag.

    They are cut at a sentence's end where budget or cap are shorter. Log-probs and entropies are 0: nobody drew them.

    Returns:
        None where there are none, not even a sentence of them fits, or they hold the closing tag themselves.
    """
    highlights, budget = prompt.document.highlights.strip(), prompt.budget
    limit = budget.limit(prompt.document.text, tokenizer)

    def token_ids(summary: str) -> list[int]:
        return encode(tokenizer, summary + template.close_tag)

    def fits(summary: str) -> bool:
        return budget.length(summary, tokenizer) <= limit and len(token_ids(summary)) <= max_new_tokens

    summary = cut_to_sentences(highlights, fits)
    if not summary or template.close_tag in summary:
        return None
    ids = token_ids(summary)
    parsed = template.parse(completion_text(tokenizer, ids))
    if not parsed or not fits(parsed):  # a tokenizer may lose something
        return None
    nothing = torch.zeros(1, len(ids))
    return Rollouts(
        prompt=prompt,
        token_ids=torch.tensor([ids]),
        mask=torch.ones(1, len(ids), dtype=torch.bool),
        log_probs=nothing,
        entropies=nothing,
        finish=torch.tensor([int(Finish.CLOSED)]),
        summaries=[parsed],
    )


# ---- what is learnt ----


def choose_lessons(group: Rollouts, rewarded: GroupRewards, used: Tensor, settings: WarmStartSettings) -> list[int]:
    """Which completions of a group are learnt: the best that count and use their budget, each summary once.

    Args:
        group: G completions.
        rewarded: What they earn.
        used: [G], see `budget_used`.
        settings: How many, and how much they must use.

    Returns:
        Their indices, the best first; of equals, the first.
    """
    useful = (rewarded.counts & (used >= settings.least_used)).nonzero().flatten().tolist()
    useful.sort(key=lambda g: -float(rewarded.total[g]))
    different: dict[str | None, int] = {}
    for g in useful:
        different.setdefault(group.summaries[g], g)
    return list(different.values())[: settings.kept_of(group.size)]


def make_lessons(
    groups: Sequence[Rollouts], chosen: Sequence[Sequence[int]], thought_share: float = 1.0
) -> list[Experience]:
    """The rows to learn: each document that has any counts the same, and within it each token.

    Where completions have thoughts, their tokens and those of the summaries count apart, as in `make_experience`.

    Args:
        groups: D groups.
        chosen: The indices of each one's completions to learn; none in a group that teaches nothing.
        thought_share: What a document's thoughts count beside its summaries, which count 1.
    """
    documents = sum(bool(indices) for indices in chosen)
    return [
        row
        for group, indices in zip(groups, chosen, strict=True)
        if indices
        for row in group_rows(group, indices, [1.0] * len(indices), documents, thought_share)
    ]


def warm_figures(
    documents: int,
    rewarded: Sequence[GroupRewards],
    used: Sequence[Tensor],
    chosen: Sequence[Sequence[int]],
    passes: Sequence[PassTotals],
) -> dict[str, float]:
    """Figures of a round of the warm start; those that are means over nothing are left out.

    Args:
        documents: Documents of the round.
        rewarded: What each group's summaries earn.
        used: Each group's [G], see `budget_used`.
        chosen: The indices of each group's completions that are learnt.
        passes: Over those.
    """

    def of_chosen(values: Sequence[Tensor]) -> Tensor:
        return joined([value[list(indices)] for value, indices in zip(values, chosen, strict=True)])

    totals = [group.total for group in rewarded]
    means = {
        "reward": joined(totals),
        "reward_kept": of_chosen(totals),
        "used": _of_valid(used, rewarded),
        "used_kept": of_chosen(used),
    }
    figures = {f"warm/{name}": float(values.mean()) for name, values in means.items() if len(values)}
    summaries, kept = sum(len(total) for total in totals), sum(map(len, chosen))
    tokens = max(1, passes[0].tokens)
    if kept:
        figures["warm/entropy"] = sum(p.entropy for p in passes) / tokens / len(passes)
    return figures | {
        "warm/loss": sum(p.loss for p in passes) / len(passes),
        "warm/grad_norm": sum(p.grad_norm for p in passes) / len(passes),
        "warm/kept": kept / max(1, summaries),
        "warm/documents": sum(bool(indices) for indices in chosen) / documents,
    }


def used_figures(rewarded: Sequence[GroupRewards], used: Sequence[Tensor]) -> dict[str, float]:
    """The share of the budget that valid summaries use; left out where there is none."""
    found = _of_valid(used, rewarded)
    return {"rollout/used": float(found.mean())} if len(found) else {}


def tell_warm_round(number: int, settings: WarmStartSettings, figures: Mapping[str, float]) -> None:
    """Says where a round had nothing to learn, and, after the last one, what the warm start has come to.

    Args:
        number: Of the round, from 1.
        settings: Of the warm start.
        figures: Of the round, see `warm_figures`.
    """
    if not figures["warm/kept"]:
        log.warning("warm start, round %d: nothing to learn; %s", number, _WITHOUT[settings.source])
    if number == settings.rounds:
        log.info(
            "warm start: ended after round %d, whose loss is %.3g%s; from here on by reward, with a new optimiser",
            number,
            figures["warm/loss"],
            f", and valid summaries use {figures['warm/used']:.0%} of their budget" if "warm/used" in figures else "",
        )


def _of_valid(values: Sequence[Tensor], rewarded: Sequence[GroupRewards]) -> Tensor:
    return joined([value[group.valid] for value, group in zip(values, rewarded, strict=True)])
