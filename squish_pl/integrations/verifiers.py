"""verifiers: documents as a taskset whose tasks are rewarded by the score; what prime-rl trains on.

A taskset is named by the module that exports it, so one of yours takes a file of one line:

    from squish_pl.integrations.verifiers import SquishTaskset
    __all__ = ["SquishTaskset"]
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Optional

import verifiers.v1 as vf

from squish_pl.benchmark.documents import load_documents
from squish_pl.integrations.reward import Graded, SummaryReward, shared_reward
from squish_pl.lm.loading import DType


class SquishTaskConfig(vf.TaskConfig):
    """How summaries are rewarded; see `SummaryReward` for each field."""

    measure: str = "squish"
    base: str = "Qwen/Qwen3-1.7B-Base"
    gguf_file: Optional[str] = None
    revision: Optional[str] = None
    dtype: DType = "auto"
    device: str = "auto"
    invalid: float = 0.0


class SquishTasksetConfig(vf.TasksetConfig):
    """Which documents are summarised, under which budgets.

    Attributes:
        documents: "samples", a file, a folder, a glob, or hub://owner/name/config.
        most: How many documents are read; all by default.
        budgets: Caps; each document is a task under each of them.
        task: See `SquishTaskConfig`.
    """

    documents: str = "samples"
    most: Optional[int] = None
    budgets: list[str] = ["10%"]
    task: SquishTaskConfig = SquishTaskConfig()


class SummaryData(vf.TaskData):
    """A task's data: the document and its budget beside the prompt."""

    document: str
    budget: str


class SquishTask(vf.Task[SummaryData, vf.State, SquishTaskConfig]):
    """Write a summary of one document."""

    @vf.reward
    async def earned(self, trace: vf.Trace) -> dict[str, float]:  # `score` is the task's; logged by measure
        """What the last answer earns."""
        return {_reward(self.config).name: (await self._graded(trace)).reward}

    @vf.metric
    async def valid(self, trace: vf.Trace) -> float:
        """1 where there is a summary, not empty and within its budget."""
        return float((await self._graded(trace)).valid)

    async def _graded(self, trace: vf.Trace) -> Graded:
        # in a thread: other rollouts go on meanwhile; what was scored once is remembered
        return await asyncio.to_thread(
            _reward(self.config).grade_one, self.data.document, trace.last_reply, self.data.budget
        )


class SquishTaskset(vf.Taskset[SquishTask, SquishTasksetConfig]):
    """A task for each document under each budget."""

    def load(self) -> Iterable[SquishTask]:
        """Reads the documents.

        Raises:
            DataError: They cannot be read.
            SquishError: See `SummaryReward`.
        """
        return self._tasks()

    def _tasks(self) -> Iterator[SquishTask]:
        config, reward = self.config, _reward(self.config.task)
        documents = load_documents(config.documents, config.most)
        for number, (document, budget) in enumerate(product(documents, config.budgets)):
            *system, request = (message["content"] for message in reward.messages(document.text, budget))
            yield SquishTask(
                SummaryData(
                    idx=number,
                    name=document.id,
                    prompt=request,
                    system_prompt=system[0] if system else None,
                    document=document.text,
                    budget=budget,
                ),
                config.task,
            )


def _reward(config: SquishTaskConfig) -> SummaryReward:
    return shared_reward(**{name: getattr(config, name) for name in SquishTaskConfig.__annotations__})
