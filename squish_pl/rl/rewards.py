"""From scores to what a completion earns in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from squish_pl.types import Scores


@dataclass(frozen=True)
class RewardSettings:
    """What is rewarded.

    Attributes:
        objective: "squish", or "squish_novel" (savings on tokens that are not copied).
        own_information: Alpha of the original's ablation: alpha * I(summary) / I(document) is subtracted. The result
            is nearly always negative, which says nothing about a group's ranking.
        invalid: What an unparsable, empty or over-budget summary earns: "below_worst" is the worst valid reward of
            its group minus `invalid_margin`; a number is earned as it is (0 is the benchmark's rule). Where no
            summary of a group is valid, all earn the same and the group teaches nothing.
        invalid_margin: See `invalid`.
    """

    objective: Literal["squish", "squish_novel"] = "squish"
    own_information: float = 0.0
    invalid: Literal["below_worst"] | float = "below_worst"
    invalid_margin: float = 0.01

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if self.own_information < 0:
            found.append(f"reward.own_information must not be negative, but is {self.own_information}")
        if self.invalid_margin < 0:
            found.append(f"reward.invalid_margin must not be negative, but is {self.invalid_margin}")
        return found


def group_rewards(
    scores: Scores,
    summaries: Sequence[str | None],
    settings: RewardSettings,
    own_information: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Rewards of a group.

    Args:
        scores: Of the group's G summaries.
        summaries: The parsed summaries; None where unparsable.
        settings: What is rewarded.
        own_information: [G] information of each summary alone, nats; needed where its weight is not 0.

    Returns:
        ([G] float64 rewards, [G] bool valid: parsed, not empty and within the budget).
    """
    valid = scores.within_budget & torch.tensor([bool(s) for s in summaries], dtype=torch.bool)
    reward = (scores.score if settings.objective == "squish" else scores.novel_score).clone()
    if settings.own_information:
        if own_information is None:
            raise ValueError("reward.own_information is set, so each summary's own information is needed")
        reward -= settings.own_information * own_information.double() / max(scores.information, 1e-12)
    if settings.invalid == "below_worst":
        floor = float(reward[valid].min()) - settings.invalid_margin if valid.any() else 0.0
    else:
        floor = float(settings.invalid)
    return torch.where(valid, reward, floor), valid
