"""Figures of a round for the dashboard; docs/metrics.md gives each key's formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from squish_pl.errors import ConfigError
from squish_pl.rl.advantages import zero_spread
from squish_pl.rl.losses import LossParts
from squish_pl.rl.rewards import GroupRewards
from squish_pl.score.measures.base import measure_key
from squish_pl.types import Finish, Rollouts, Scores


def rollout_figures(groups: Sequence[Rollouts]) -> dict[str, float]:
    """Shares of how completions ended, lengths, entropy and variety of D groups, and how they thought, if they did."""
    finish = torch.cat([group.finish for group in groups])
    lengths = torch.cat([group.lengths for group in groups]).double()
    entropy = torch.cat([group.entropies[group.mask] for group in groups]).double()
    distinct = [len({tuple(t[m].tolist()) for t, m in zip(g.token_ids, g.mask, strict=True)}) / g.size for g in groups]
    ends = [end for end in Finish if end != Finish.THOUGHT or groups[0].thoughts is not None]
    figures = {f"rollout/{end.name.lower()}": float((finish == end).double().mean()) for end in ends}
    return figures | {
        "rollout/parsed": sum(s is not None for g in groups for s in g.summaries) / len(finish),
        "rollout/length": float(lengths.mean()),
        "rollout/length_max": float(lengths.max()),
        "rollout/entropy": float(entropy.mean()),
        "rollout/distinct": sum(distinct) / len(distinct),
        **_thought_figures(groups),
    }


def _thought_figures(groups: Sequence[Rollouts]) -> dict[str, float]:
    """Of the completions' thoughts; none without thinking, and no mean over what is not there."""
    pairs = [(group, group.thoughts) for group in groups if group.thoughts is not None]
    if not pairs:
        return {}
    texts = [both for g, thoughts in pairs for both in zip(thoughts.texts, g.summaries, strict=True)]
    copied = [summary in text for text, summary in texts if summary]
    entropies = {
        "rollout/thought_entropy": torch.cat([g.entropies[g.thought_mask] for g, _ in pairs]),
        "rollout/summary_entropy": torch.cat([g.entropies[g.mask & ~g.thought_mask] for g, _ in pairs]),
    }
    return {
        "rollout/thought_length": sum(int(thoughts.lengths.sum()) for _, thoughts in pairs) / len(texts),
        "rollout/thought_empty": sum(not text for text, _ in texts) / len(texts),
        **({"rollout/thought_copied": sum(copied) / len(copied)} if copied else {}),
        **{key: float(nats.double().mean()) for key, nats in entropies.items() if len(nats)},
    }


def reward_figures(groups: Sequence[GroupRewards], scores: Sequence[Scores]) -> dict[str, float]:
    """Rewards of D groups, their components by name, and the scores behind them.

    Means over what there is: a NaN tells nothing, and without any other value the figure is left out.
    """
    rewards = torch.stack([group.total for group in groups])
    parts = {f"reward/{name}": torch.stack([group.parts[name] for group in groups]) for name in groups[0].parts}
    parts |= {
        f"score/{measure_key(name)}": torch.stack([s.measures[name] for s in scores]) for name in scores[0].measures
    }
    if factors := [group.factor[group.valid] for group in groups if group.factor is not None]:
        parts["reward/length_factor"] = torch.cat(factors)
    return {
        **{key: float(part.nanmean()) for key, part in parts.items() if not part.isnan().all()},
        "reward/squish": float(torch.stack([s.score for s in scores]).mean()),
        "reward/novel": float(torch.stack([s.novel_score for s in scores]).mean()),
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std(dim=1).mean()),
        "reward/best": float(rewards.max(dim=1).values.mean()),
        "reward/zero_spread": float(zero_spread(rewards).double().mean()),
        "rollout/within_budget": float(torch.stack([group.valid for group in groups]).double().mean()),
    }


def source_figures(groups: Sequence[Rollouts], scores: Sequence[Scores]) -> dict[str, float]:
    """Mean scores of each source's documents, where they come from several."""
    found: dict[str, list[Scores]] = {}
    for group, one in zip(groups, scores, strict=True):
        if name := group.prompt.document.source:
            found.setdefault(name, []).append(one)
    return {
        f"source/{name}/{key}": float(torch.stack(values).mean())
        for name, own in found.items()
        for key, values in (("squish", [s.score for s in own]), ("novel", [s.novel_score for s in own]))
    }


OF_EVERY_PASS = {"grad_norm", "entropy", "sampling_gap"}  #: figures under `policy/`, whatever the loss


@dataclass
class PassTotals:
    """Sums over the tokens of a policy pass, collected slice by slice.

    Attributes:
        tokens: Generated tokens.
        loss: The pass's loss; ready as it is, since its terms carry their weights.
        sums: Those that the loss names.
        entropy: Sum of the distributions' entropies, nats.
        sampling_gap: Sum of the distances between a token's log-prob now and as it was drawn, nats.
        grad_norm: Norm of the adapter's gradient before clipping.
        penalty: What the entropy control added to the loss, where it added anything.
        log_probs: Each row's log-probs.
        found_on: Which process the loss is not finite on, for messages.
    """

    tokens: int = 0
    loss: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    entropy: float = 0.0
    sampling_gap: float = 0.0
    grad_norm: float = 0.0
    penalty: float | None = None
    log_probs: list[Tensor] = field(default_factory=list)
    found_on: str = ""

    def add(
        self, part: LossParts, entropies: Tensor, log_probs: Tensor, sampled_log_probs: Tensor, lengths: Tensor
    ) -> None:
        """Adds one slice of N tokens, whose rows have these lengths.

        Raises:
            ConfigError: The loss calls a sum like a figure that every pass has.
        """
        if taken := sorted(OF_EVERY_PASS & part.sums.keys()):
            raise ConfigError(
                f"model.loss: a sum must not be called {name!r}, since policy/{name} is a figure of every loss"
                for name in taken
            )
        self.tokens += entropies.numel()
        self.loss += float(part.loss.detach())
        for name, value in part.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.entropy += float(entropies.sum())
        self.sampling_gap += float((log_probs - sampled_log_probs).abs().sum())
        self.log_probs += log_probs.cpu().split(lengths.tolist())


def policy_figures(passes: Sequence[PassTotals]) -> dict[str, float]:
    """Means over the K policy passes of a round, each a mean over its tokens."""
    tokens = [max(1, p.tokens) for p in passes]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    figures = {
        "loss/policy": mean([p.loss for p in passes]),
        "policy/grad_norm": mean([p.grad_norm for p in passes]),
    }
    if penalties := [p.penalty for p in passes if p.penalty is not None]:
        figures["entropy/penalty"] = mean(penalties)
    if not passes[0].tokens:  # every group was skipped: there is no token to speak of
        return figures
    sums = {
        f"policy/{name}": mean([p.sums[name] / n for p, n in zip(passes, tokens, strict=True)])
        for name in passes[0].sums
    }
    return {
        **figures,
        **sums,
        "policy/entropy": mean([p.entropy / n for p, n in zip(passes, tokens, strict=True)]),
        "policy/sampling_gap": passes[0].sampling_gap / tokens[0],
    }
