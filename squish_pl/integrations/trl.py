"""TRL: the score as a reward function of `GRPOTrainer`, and of every trainer that takes the same functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from squish_pl.budget import Budget
from squish_pl.errors import DataError
from squish_pl.integrations.reward import Completion, SummaryReward


class SquishReward(SummaryReward):
    """A reward function that reads the dataset's columns `document` and `budget` (which may be left out).

    Completions may be texts or chats. TRL logs it as `rewards/<name>/mean`, and the share of summaries that are there
    and within their budgets as `<name>/valid`. The arguments are those of `SummaryReward`; for invalid summaries
    training's rule is the usual one here, since a group is scored together.

    Example:
        GRPOTrainer(model, reward_funcs=[SquishReward("fair", base="Qwen/Qwen3-1.7B-Base")], train_dataset=...)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"invalid": "below_worst", **kwargs})

    def __call__(
        self,
        completions: Sequence[Completion],
        document: Sequence[str] | None = None,
        budget: Sequence[Budget | str | None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float]:
        """One reward for each completion.

        Args:
            completions: Texts, or lists of messages.
            document: The dataset's column.
            budget: The dataset's column.
            log_metric: The trainer's.

        Raises:
            DataError: The dataset has no column `document`.
            SquishError: See `SummaryReward.grade`.
        """
        if document is None:
            raise DataError("expected a dataset with a column `document`, the text to summarise, but it has none")
        graded = self.grade(document, completions, budget)
        if log_metric is not None and graded:
            log_metric(f"{self.name}/valid", sum(one.valid for one in graded) / len(graded))
        return [one.reward for one in graded]
