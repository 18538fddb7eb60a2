"""Rollouts: the policy writes G summaries for each prompt.

    prompts [D] --prefill--> logits [D * G rows] --draw, step, draw, step--> Rollouts [D]

A row ends when its summary closes, when it has certainly outgrown its budget (its score is then known to be 0), when
the model writes its end token, or at the cap. The tokens' log-probs are those of the distribution drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
from squish_pl.policy.reading import Pieces, room_left
from squish_pl.types import Finish, Prompt, Rollouts, pad_rows


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn: plain temperature sampling, nothing cut off, so the log-probs are the policy's own.

    Attributes:
        temperature: Divides the logits; 0 takes the likeliest token (validation).
        max_new_tokens: Cap on a completion; None lets its budget decide (see `policy.caps`).
    """

    temperature: float = 1.0
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class RolloutSettings:
    """What is sampled in training.

    Attributes:
        budgets: Drawn from, one for each document of a step: "10%", "500 chars", "5% tokens", "64 tokens", "300 bytes".
        group_size: Summaries a document.
        temperature: Divides the logits; nothing else is cut off, so the log-probs are the policy's own.
        curriculum: Pairs (round, budget): a budget is drawn from that round on, [[0, "20%"], [100, "10%"]], one that
            is not named from the beginning. After the last of these rounds all are drawn evenly, as without it;
            validation is left alone.
        max_new_tokens: Cap on a completion, in training, validation and prediction; by default it follows from each
            summary's budget (see `policy.caps`).
        seed: Of budgets and samples; the command line sets it by `seed_everything`.
    """

    budgets: list[str] = field(default_factory=lambda: ["1%", "2%", "5%", "10%", "20%"])
    group_size: int = 8
    temperature: float = 1.0
    max_new_tokens: Optional[int] = None
    seed: int = 0
    curriculum: list[tuple[int, str]] = field(default_factory=list)

    @property
    def sampling(self) -> SamplingSettings:
        """How a completion is drawn."""
        return SamplingSettings(self.temperature, self.max_new_tokens)

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
        watches = [_Watch(prompt, template, tokenizer, counter, ends, pieces) for prompt in prompts]
        caps = completion_caps(prompts, settings.max_new_tokens, template, tokenizer, context, counter)
        decoder = policy.passes.decoder(model, group_size, max(caps))
        return _decode(decoder, watches, caps, settings.temperature, seeds)


def completion_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Generated tokens as text, special ones left out."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


class _Watch:
    """Reads a row's text as it grows and tells when it has to end."""

    def __init__(
        self,
        prompt: Prompt,
        template: PromptTemplate,
        tokenizer: PreTrainedTokenizerBase,
        counter: PreTrainedTokenizerBase | None = None,
        ends: Iterable[int] = (),
        pieces: Pieces | None = None,
    ) -> None:
        self.prompt, self.template, self.tokenizer = prompt, template, tokenizer
        self.counter = tokenizer if counter is None else counter
        self.limit = prompt.budget.limit(prompt.document.text, self.counter)
        self.end_tokens = {tokenizer.eos_token_id, *ends}
        self.pieces = Pieces(tokenizer, self.counter, template.close_tag) if pieces is None else pieces

    def text(self, token_ids: list[int]) -> str:
        return completion_text(self.tokenizer, token_ids)

    def finish(self, completion: _Completion, max_new_tokens: int) -> Finish | None:
        """Why a completion ends here; None if it goes on. It is read where its last token can end it (`reading`)."""
        token_ids = completion.tokens
        ended = token_ids[-1] in self.end_tokens
        capped = Finish.CAPPED if len(token_ids) >= max_new_tokens else None
        completion.room -= self.pieces.most(token_ids[-1], self.prompt.budget.unit)
        if completion.room >= 0 and not ended and not self.pieces.may_close(token_ids[-1]):
            return capped
        text = self.text(token_ids)
        if self.template.parse(text, ended) is not None:
            return Finish.CLOSED
        if ended:
            return Finish.ENDED
        settled, length = self.measure(text)
        if length > self.limit:
            return Finish.OUTGROWN
        completion.room = room_left(self.pieces, self.prompt.budget.unit, self.limit, text, settled, length)
        return capped

    def measure(self, text: str) -> tuple[str, int]:
        """(the part of an unfinished summary that is certain to stay, its length in the budget's unit)."""
        written = self.template.written_so_far(text)
        if self.prompt.budget.unit.counts_tokens:
            # the last word's tokens can still merge with what follows; earlier words' tokens are settled
            words = written.rsplit(maxsplit=1)
            written = words[0] if len(words) > 1 else ""
        return written, self.prompt.budget.length(written, self.counter)

    def summary(self, token_ids: list[int], finish: Finish) -> str | None:
        if finish != Finish.CLOSED:
            return None
        return self.template.parse(self.text(token_ids), ended=token_ids[-1] in self.end_tokens)


def _end_tokens(model: PreTrainedModel) -> set[int]:
    """The model's own end tokens, which may be more than its tokenizer's one: a chat's end of turn."""
    named = getattr(model.generation_config, "eos_token_id", None)
    return set() if named is None else {named} if isinstance(named, int) else set(named)


def _decode(
    decoder: Decoder, watches: list[_Watch], caps: Sequence[int], temperature: float, seeds: Sequence[int]
) -> list[Rollouts]:
    group_size = decoder.group_size
    numbers = Numbers(seeds, decoder.device)
    completions = [_Completion() for _ in range(len(watches) * group_size)]
    left = torch.arange(len(completions))  # rows that have not ended, in the decoder's order
    logits = decoder.prefill([watch.prompt for watch in watches])
    while True:
        drawn = _draw(logits, temperature, numbers, group_size, left)
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


@dataclass
class _Completion:
    """A row as it grows; `room` is what it can grow by before it has to be read again."""

    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finish: Finish | None = None
    room: int = 0

    def add(self, token: int, log_prob: float, entropy: float) -> None:
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        self.entropies.append(entropy)


def _draw(
    logits: Tensor, temperature: float, numbers: Numbers, group_size: int, left: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a token for each row that is left: [R] tokens, log-probs (NaN without finite logits) and entropies."""
    if temperature == 0:
        drawn = logits.argmax(dim=-1)
        return drawn, *log_probs_of_logits(logits, drawn)
    drawn, finite = draw(logits, temperature, numbers.next(group_size, left))
    log_probs, entropies = log_probs_of_logits(logits, drawn, temperature)
    return drawn, log_probs.masked_fill(~finite, math.nan), entropies


def _collect(watch: _Watch, completions: Sequence[_Completion]) -> Rollouts:
    lengths = torch.tensor([len(c.tokens) for c in completions])
    ends = [c.finish if c.finish is not None else Finish.CAPPED for c in completions]
    return Rollouts(
        prompt=watch.prompt,
        token_ids=pad_rows([torch.tensor(c.tokens) for c in completions]),
        mask=torch.arange(int(lengths.max())) < lengths.unsqueeze(1),
        log_probs=pad_rows([torch.tensor(c.log_probs) for c in completions]),
        entropies=pad_rows([torch.tensor(c.entropies) for c in completions]),
        finish=torch.tensor([int(end) for end in ends]),
        summaries=[watch.summary(c.tokens, end) for c, end in zip(completions, ends, strict=True)],
    )
