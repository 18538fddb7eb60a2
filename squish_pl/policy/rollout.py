"""Rollouts: the policy writes G summaries for each prompt.

    prompts [D] --prefill--> logits [D * G rows] --draw, step, draw, step--> Rollouts [D]

A row ends when its summary closes, when it has certainly outgrown its budget (its score is then known to be 0), when
the model writes its end token, or at the cap. A thought before the summary (`PromptTemplate.thinking`) has a cap of its
own. The tokens' log-probs are those of the distribution drawn from, or with `top_k` of the whole distribution, of which
only the likeliest tokens are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import ModelError, repeated
from squish_pl.lm.language_model import context_length
from squish_pl.lm.log_probs import log_probs_of_logits
from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.caps import completion_caps
from squish_pl.policy.drawing import Numbers, draw
from squish_pl.policy.passes import Decoder
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.reading import Pieces
from squish_pl.policy.watch import Completion, Watch
from squish_pl.types import Prompt, Rollouts, pad_rows


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn: plain temperature sampling; the log-probs are the policy's own.

    Attributes:
        temperature: Divides the logits; 0 takes the likeliest token (validation).
        max_new_tokens: Cap on a completion, its thought left out; None lets its budget decide (see `policy.caps`).
        top_k: Draws among so many likeliest tokens alone; None among all.
    """

    temperature: float = 1.0
    max_new_tokens: int | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class RolloutSettings:
    """What is sampled in training.

    Attributes:
        budgets: Drawn from, one for each document of a step: "10%", "500 chars", "5% tokens", "64 tokens", "300 bytes".
        group_size: Summaries a document.
        temperature: Divides the logits; the log-probs are those of the policy at this temperature.
        top_k: Draws among so many likeliest tokens alone, as the original did with 50; by default among all. As there,
            log-probs, entropies and the loss stay those of the whole distribution: the gradient knows of no cut.
        curriculum: Pairs (round, budget): a budget is drawn from that round on, [[0, "20%"], [100, "10%"]], one that
            is not named from the beginning. After the last of these rounds all are drawn evenly, as without it;
            validation is left alone.
        max_new_tokens: Cap on a completion, its thought left out, in training, validation and prediction; by default
            it follows from each summary's budget (see `policy.caps`).
        seed: Of budgets and samples; the command line sets it by `seed_everything`.
    """

    budgets: list[str] = field(default_factory=lambda: ["1%", "2%", "5%", "10%", "20%"])
    group_size: int = 8
    temperature: float = 1.0
    max_new_tokens: Optional[int] = None
    seed: int = 0
    curriculum: list[tuple[int, str]] = field(default_factory=list)
    top_k: Optional[int] = None

    @property
    def sampling(self) -> SamplingSettings:
        """How a completion is drawn."""
        return SamplingSettings(self.temperature, self.max_new_tokens, self.top_k)

    def budgets_at(self, round_: int) -> list[Budget]:
        """The budgets that are drawn from in a round (the first is 0)."""
        starts = {Budget.parse(name): start for start, name in self.curriculum}
        return [budget for budget in map(Budget.parse, self.budgets) if starts.get(budget, 0) <= round_]

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [] if self.budgets else ["rollout.budgets must name at least one budget"]
        found += [f"rollout.budgets: {problem}" for problem in Budget.problems(self.budgets)]
        if self.group_size < 2:
            found.append(
                f"rollout.group_size must be at least 2, but is {self.group_size}: summaries are judged against "
                "their group"
            )
        if not 0 < self.temperature < float("inf"):
            found.append(
                f"rollout.temperature must be a number above 0, but is {self.temperature}: equal summaries teach "
                "nothing"
            )
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            found.append(f"rollout.max_new_tokens must be at least 1, but is {self.max_new_tokens}")
        if self.top_k is not None and self.top_k < 2:
            found.append(f"rollout.top_k must be at least 2, but is {self.top_k}: equal summaries teach nothing")
        return found + self._curriculum_problems()

    def _curriculum_problems(self) -> list[str]:
        names = [name for _, name in self.curriculum]
        found = [f"rollout.curriculum: {problem}" for problem in Budget.problems(names)]
        found += [
            f"rollout.curriculum: a round must be at least 0, but is {start}"
            for start, _ in self.curriculum
            if start < 0
        ]
        if found or Budget.problems(self.budgets) or not self.budgets:
            return found
        budgets, named = [Budget.parse(b) for b in self.budgets], [Budget.parse(name) for name in names]
        found += [
            f"rollout.curriculum: {b} is none of rollout.budgets ({', '.join(self.budgets)})"
            for b in named
            if b not in budgets
        ]
        found += [
            f"rollout.curriculum: {count} begin {b}: name it once" for b, count in repeated(map(str, named)).items()
        ]
        if not found and not self.budgets_at(0):
            found.append("rollout.curriculum: no budget is drawn in round 0: let one begin there")
        return found


def sample(
    policy: PolicyView,
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    prompts: Sequence[Prompt],
    group_size: int,
    settings: SamplingSettings,
    seeds: Sequence[int],
    counter: PreTrainedTokenizerBase | None = None,
) -> list[Rollouts]:
    """Samples a group of completions for every prompt, all of them together; `Engine.sample` does it within memory.

    Args:
        policy: The model with its adapter on.
        tokenizer: Its tokenizer.
        template: Tells where a summary ends.
        prompts: D prompts.
        group_size: G, completions a prompt.
        settings: Temperature and limits.
        seeds: One for each prompt: a group's draws depend on its own seed alone, not on its neighbours.
        counter: The tokenizer that counts budgets in tokens, where it is not the model's own.

    Returns:
        D groups, in the order of the prompts.
    """
    with policy.generating() as model:
        ends, context = _end_tokens(model), context_length(policy.config)
        pieces = Pieces(tokenizer, tokenizer if counter is None else counter, template.close_tag)
        watches = [Watch(prompt, template, tokenizer, counter, ends, pieces) for prompt in prompts]
        caps = completion_caps(prompts, settings.max_new_tokens, template, tokenizer, context, counter)
        decoder = policy.passes.decoder(model, group_size, max(caps))
        return _decode(decoder, watches, caps, settings.temperature, seeds, settings.top_k)


def _end_tokens(model: PreTrainedModel) -> set[int]:
    """The model's own end tokens, which may be more than its tokenizer's one: a chat's end of turn."""
    named = getattr(model.generation_config, "eos_token_id", None)
    return set() if named is None else {named} if isinstance(named, int) else set(named)


def _decode(
    decoder: Decoder,
    watches: list[Watch],
    caps: Sequence[int],
    temperature: float,
    seeds: Sequence[int],
    top_k: int | None = None,
) -> list[Rollouts]:
    group_size = decoder.group_size
    numbers = Numbers(seeds, decoder.device)
    completions = [Completion() for _ in range(len(watches) * group_size)]
    left = torch.arange(len(completions))  # rows that have not ended, in the decoder's order
    logits = decoder.prefill([watch.prompt for watch in watches])
    while True:
        drawn = _draw(logits, temperature, numbers, group_size, left, top_k)
        # read back at once: each time would wait for the device
        told = torch.stack([x.double() for x in drawn]).tolist()
        if any(map(math.isnan, told[1])):
            raise ModelError(
                "the model's logits are not finite: try another dtype, or in training a lower "
                "model.optimizer.learning_rate"
            )
        going_on = []
        for i, (row, token, log_prob, entropy) in enumerate(zip(left.tolist(), *told, strict=True)):
            completion = completions[row]
            completion.add(int(token), log_prob, entropy)
            group = row // group_size
            completion.finish = watches[group].finish(completion, caps[group])
            if completion.finish is None:
                going_on.append(i)
        if not going_on:
            break
        tokens = drawn[0]
        if len(going_on) < len(left):
            keep = torch.tensor(going_on)
            left, tokens = left[keep], tokens[keep.to(tokens.device)]
            decoder.keep(keep)
        logits = decoder.step(tokens)
    return [_collect(watch, completions[d * group_size : (d + 1) * group_size]) for d, watch in enumerate(watches)]


def _draw(
    logits: Tensor, temperature: float, numbers: Numbers, group_size: int, left: Tensor, top_k: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a token for each row that is left: [R] tokens, log-probs (NaN without finite logits) and entropies."""
    if temperature == 0:
        drawn = logits.argmax(dim=-1)
        return drawn, *log_probs_of_logits(logits, drawn)
    drawn, finite = draw(_likeliest(logits, top_k), temperature, numbers.next(group_size, left))
    log_probs, entropies = log_probs_of_logits(logits, drawn, temperature)
    return drawn, log_probs.masked_fill(~finite, math.nan), entropies


def _likeliest(logits: Tensor, top_k: int | None) -> Tensor:
    """[R, V] logits, -inf for all but each row's k largest; equal ones at the edge all stay."""
    if top_k is None or top_k >= logits.shape[1]:
        return logits
    return logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], float("-inf"))


def _collect(watch: Watch, completions: Sequence[Completion]) -> Rollouts:
    lengths = torch.tensor([len(c.tokens) for c in completions])
    ends = [c.finish for c in completions if c.finish is not None]
    assert len(ends) == len(completions)
    return Rollouts(
        prompt=watch.prompt,
        token_ids=pad_rows([torch.tensor(c.tokens) for c in completions]),
        mask=torch.arange(int(lengths.max())) < lengths.unsqueeze(1),
        log_probs=pad_rows([torch.tensor(c.log_probs) for c in completions]),
        entropies=pad_rows([torch.tensor(c.entropies) for c in completions]),
        finish=torch.tensor([int(end) for end in ends]),
        summaries=[watch.summary(c) for c in completions],
        thoughts=watch.thoughts(completions),
    )
