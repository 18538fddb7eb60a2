"""inspect_ai: the score as a scorer, and documents as a dataset."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from squish_pl.errors import DataError
from squish_pl.integrations.reward import shared_reward


@scorer(metrics={"*": [mean(), stderr()]})
def squish(**settings: Any) -> Scorer:
    """A scorer of the summaries that a model wrote: the measure by its name, and `valid`, 1 where there is a summary,
    not empty and within its budget.

    Each sample's metadata holds `document`, and `budget` where it has one of its own; `summary_dataset` makes such
    samples.

    Args:
        **settings: See `SummaryReward`.
    """
    reward = shared_reward(**settings)

    async def score(state: TaskState, target: Target) -> Score:
        if "document" not in state.metadata:
            held = ", ".join(state.metadata) or "nothing"
            raise DataError(f"expected each sample's metadata to hold 'document', but it has {held}")
        document, budget = state.metadata["document"], state.metadata.get("budget")
        # in a thread: other samples' requests to the model go on meanwhile
        graded = await asyncio.to_thread(reward.grade_one, document, state.output.completion, budget)
        return Score(value={reward.name: graded.reward, "valid": float(graded.valid)}, answer=graded.summary)

    return score


def summary_dataset(documents: Iterable[str], budgets: Iterable[str] = ("10%",), **settings: Any) -> MemoryDataset:
    """A sample for each document under each budget, asked as `SummaryReward.messages` words it.

    Args:
        documents: Texts.
        budgets: Caps.
        **settings: See `SummaryReward`.
    """
    reward, caps = shared_reward(**settings), list(budgets)
    samples = [
        Sample(
            input=[_message(**message) for message in reward.messages(document, budget)],
            metadata={"document": document, "budget": budget},
        )
        for document in documents
        for budget in caps
    ]
    return MemoryDataset(samples, name="summaries")


def _message(role: str, content: str) -> ChatMessage:
    return ChatMessageSystem(content=content) if role == "system" else ChatMessageUser(content=content)
