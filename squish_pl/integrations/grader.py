"""A plain grader: a callable of a sample and an item, as OpenAI's Python graders are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from squish_pl.errors import DataError
from squish_pl.integrations.reward import SummaryReward


class SquishGrader(SummaryReward):
    """`grade(sample, item)`: the score of a sample's text for an item of the data.

    The arguments are those of `SummaryReward`.

    Example:
        grade = SquishGrader(base="Qwen/Qwen3-1.7B-Base")
        grade({"output_text": "<summary>...</summary>"}, {"document": "...", "budget": "10%"})
    """

    def __call__(self, sample: Mapping[str, Any], item: Mapping[str, Any]) -> float:
        """The reward of a sample.

        Args:
            sample: What the model gave: `output_text`.
            item: A row of the data: `document`, and `budget` where it has one of its own.

        Raises:
            DataError: A field is missing.
            SquishError: See `SummaryReward.grade`.
        """
        for what, field, given in (("sample", "output_text", sample), ("item", "document", item)):
            if field not in given:
                raise DataError(f"expected the {what} to hold {field!r}, but it has {', '.join(given) or 'nothing'}")
        return self.grade_one(item["document"], sample["output_text"] or "", item.get("budget")).reward
