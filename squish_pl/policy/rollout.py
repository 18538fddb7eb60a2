"""Rollouts: the policy writes G summaries for each prompt.

    prompts [D] --prefill (padded left)--> cache [D] --repeat G--> [D * G rows] --step by step--> Rollouts [D]

A row ends when its summary closes, when it has certainly outgrown its budget (its score is then known to be 0), when
the model writes its end token, or at the cap. The tokens' log-probs are those of the distribution drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from squish_pl.log_probs import log_probs_of_logits
from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.types import Finish, Prompt, Rollouts, pad_rows


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn: plain temperature sampling, nothing cut off, so the log-probs are the policy's own.

    Attributes:
        temperature: Divides the logits; 0 takes the likeliest token (validation).
        max_new_tokens: Cap on a completion.
        max_rows: Most sequences that are decoded at a time.
    """

    temperature: float = 1.0
    max_new_tokens: int = 512
    max_rows: int = 256

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if self.temperature < 0:
            found.append(f"sampling.temperature must not be negative, but is {self.temperature}")
        found += [
            f"sampling.{name} must be at least 1, but is {value}"
            for name, value in (("max_new_tokens", self.max_new_tokens), ("max_rows", self.max_rows))
            if value < 1
        ]
        return found


def sample(
    policy: PolicyView,
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    prompts: Sequence[Prompt],
    group_size: int,
    settings: SamplingSettings,
    seeds: Sequence[int],
) -> list[Rollouts]:
    """Samples a group of completions for every prompt.

    Args:
        policy: The model with its adapter on.
        tokenizer: Its tokenizer.
        template: Tells where a summary ends.
        prompts: D prompts.
        group_size: G, completions a prompt.
        settings: Temperature and limits.
        seeds: One for each prompt: a group's draws depend on its own seed alone, not on its neighbours.

    Returns:
        D groups, in the order of the prompts.
    """
    prompts_at_a_time = max(1, settings.max_rows // group_size)
    groups: list[Rollouts] = []
    with policy.generating() as model:
        for first in range(0, len(prompts), prompts_at_a_time):
            chunk = slice(first, first + prompts_at_a_time)
            watches = [_Watch(prompt, template, tokenizer) for prompt in prompts[chunk]]
            groups += _decode(model, watches, group_size, settings, seeds[chunk])
    return groups


class _Watch:
    """Reads a row's text as it grows and tells when it has to end."""

    def __init__(self, prompt: Prompt, template: PromptTemplate, tokenizer: PreTrainedTokenizerBase) -> None:
        self.prompt, self.template, self.tokenizer = prompt, template, tokenizer
        self.limit = prompt.budget.limit(prompt.document.text, tokenizer)
        self.end_tokens = {tokenizer.eos_token_id}

    def text(self, token_ids: list[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def finish(self, token_ids: list[int], max_new_tokens: int) -> Finish | None:
        """Why a completion ends here; None if it goes on."""
        ended = token_ids[-1] in self.end_tokens
        text = self.text(token_ids)
        if self.template.parse(text, ended) is not None:
            return Finish.CLOSED
        if ended:
            return Finish.ENDED
        if self._outgrown(text):
            return Finish.OUTGROWN
        return Finish.CAPPED if len(token_ids) >= max_new_tokens else None

    def _outgrown(self, text: str) -> bool:
        written = self.template.written_so_far(text)
        if self.prompt.budget.unit.counts_tokens:
            # the last word's tokens can still merge with what follows; earlier words' tokens are settled
            words = written.rsplit(maxsplit=1)
            written = words[0] if len(words) > 1 else ""
        return self.prompt.budget.length(written, self.tokenizer) > self.limit

    def summary(self, token_ids: list[int], finish: Finish) -> str | None:
        if finish != Finish.CLOSED:
            return None
        return self.template.parse(self.text(token_ids), ended=token_ids[-1] in self.end_tokens)


def _decode(
    model: PreTrainedModel, watches: list[_Watch], group_size: int, settings: SamplingSettings, seeds: Sequence[int]
) -> list[Rollouts]:
    device = next(model.parameters()).device
    generators = [torch.Generator(device=device).manual_seed(seed) for seed in seeds]
    rows = len(watches) * group_size
    input_ids, mask = _pad_left([watch.prompt.token_ids for watch in watches], device)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    output = model(
        input_ids=input_ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
    )
    cache.batch_repeat_interleave(group_size)
    logits = output.logits[:, -1].repeat_interleave(group_size, dim=0)
    mask = mask.repeat_interleave(group_size, dim=0)
    position = positions[:, -1:].repeat_interleave(group_size, dim=0)

    tokens: list[list[int]] = [[] for _ in range(rows)]
    finish: list[Finish | None] = [None] * rows
    log_probs, entropies = [], []
    for _ in range(settings.max_new_tokens):
        drawn, log_prob, entropy = _draw(logits, settings.temperature, generators, group_size)
        log_probs.append(log_prob)
        entropies.append(entropy)
        for row, token in enumerate(drawn.tolist()):
            if finish[row] is None:
                tokens[row].append(token)
                finish[row] = watches[row // group_size].finish(tokens[row], settings.max_new_tokens)
        if all(end is not None for end in finish):
            break
        mask = torch.cat([mask, mask.new_ones(rows, 1)], dim=1)
        position = position + 1
        output = model(
            input_ids=drawn.unsqueeze(1),
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1]
    ends = [end if end is not None else Finish.CAPPED for end in finish]
    return _collect(watches, group_size, tokens, ends, torch.stack(log_probs, 1).cpu(), torch.stack(entropies, 1).cpu())


def _draw(
    logits: Tensor, temperature: float, generators: list[torch.Generator], group_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    if temperature == 0:
        drawn = logits.argmax(dim=-1)
        return drawn, *log_probs_of_logits(logits, drawn)
    p = torch.softmax(logits.float() / temperature, dim=-1)
    drawn = torch.cat(
        [
            torch.multinomial(group, 1, generator=generator).squeeze(1)
            for group, generator in zip(p.split(group_size), generators, strict=True)
        ]
    )
    return drawn, *log_probs_of_logits(logits, drawn, temperature)


def _pad_left(rows: list[tuple[int, ...]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        input_ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return input_ids.to(device), mask.to(device)


def _collect(
    watches: list[_Watch],
    group_size: int,
    tokens: list[list[int]],
    finish: list[Finish],
    log_probs: Tensor,
    entropies: Tensor,
) -> list[Rollouts]:
    groups = []
    for number, watch in enumerate(watches):
        members = range(number * group_size, (number + 1) * group_size)
        token_ids = pad_rows([torch.tensor(tokens[row]) for row in members])
        lengths = torch.tensor([len(tokens[row]) for row in members])
        mask = torch.arange(token_ids.shape[1]) < lengths.unsqueeze(1)
        block = slice(members.start, members.stop), slice(0, token_ids.shape[1])
        groups.append(
            Rollouts(
                prompt=watch.prompt,
                token_ids=token_ids,
                mask=mask,
                log_probs=log_probs[block].float() * mask,
                entropies=entropies[block].float() * mask,
                finish=torch.tensor([int(finish[row]) for row in members]),
                summaries=[watch.summary(tokens[row], finish[row]) for row in members],
            )
        )
    return groups
