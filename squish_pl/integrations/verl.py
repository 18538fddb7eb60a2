"""verl: the score as its custom reward function, one completion or a batch at a time.

    reward.custom_reward_function.path=pkg://squish_pl.integrations.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.base=Qwen/Qwen3-1.7B-Base

Each row's `extra_info` holds `document`, and `budget` where it has one of its own. The settings are the arguments of
`SummaryReward`. Nothing of verl is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from squish_pl.errors import DataError
from squish_pl.integrations.reward import Graded, shared_reward


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **settings: Any,
) -> dict[str, float]:
    """The reward of one completion, as verl's reward managers `naive` and `dapo` ask for it.

    Args:
        data_source: Not looked at.
        solution_str: The completion.
        ground_truth: Not looked at.
        extra_info: The row's own: `document`, `budget`.
        reward_router_address: Of verl's own reward models; not looked at.
        reward_model_tokenizer: The same.
        **settings: See `SummaryReward`.

    Returns:
        `score`, which is learnt from, and `valid`, which verl logs beside it.

    Raises:
        DataError: There is no document.
        SquishError: See `SummaryReward`.
    """
    return compute_scores([data_source], [solution_str], [ground_truth], [extra_info], **settings)[0]


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any] | None],
    **settings: Any,
) -> list[dict[str, float]]:
    """The same for a batch, as the reward manager `batch` asks for it: its rows share the passes of the reference.

    Args:
        data_sources: Not looked at.
        solution_strs: The completions.
        ground_truths: Not looked at.
        extra_infos: The rows' own.
        **settings: See `SummaryReward`.

    Raises:
        SquishError: See `compute_score`.
    """
    rows = [row or {} for row in extra_infos]
    if without := [", ".join(row) or "nothing" for row in rows if "document" not in row]:
        raise DataError(f"expected extra_info to hold 'document', but it has {without[0]}")
    reward = shared_reward(**settings)
    graded = reward.grade([row["document"] for row in rows], list(solution_strs), [row.get("budget") for row in rows])
    return [_result(one) for one in graded]


def _result(graded: Graded) -> dict[str, float]:
    return {"score": graded.reward, "valid": float(graded.valid)}
