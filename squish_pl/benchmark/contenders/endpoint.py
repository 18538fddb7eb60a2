"""Any OpenAI-compatible endpoint: OpenRouter, vLLM, `transformers serve`, llama.cpp."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from queue import SimpleQueue
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal
from anyio.streams.memory import MemoryObjectReceiveStream

from squish_pl.benchmark.contenders.asking import Asker, Patience, Unanswered, one_line
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.contenders.lessons import Lessons
from squish_pl.benchmark.contenders.replies import Reply, Usage, answer_text
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, ModelError
from squish_pl.lm.tokens import whole_characters
from squish_pl.policy.answers import find_summary, without_thought
from squish_pl.policy.prompts import PromptTemplate

Effort = Literal["minimal", "low", "medium", "high"]
_EFFORTS = ("minimal", "low", "medium", "high")
_OURS = ("model", "messages", "stream", "n")  # what `extra` must leave alone


@dataclass(frozen=True)
class Prices:
    """What a service charges, in US dollars for a million tokens.

    Attributes:
        prompt: Tokens read.
        completion: Tokens written, those of the reasoning among them.
    """

    prompt: float
    completion: float


class Endpoint(Contender):
    """Asks a model behind an OpenAI-compatible endpoint, several documents at a time.

    Args:
        base_url: Up to the version: "https://openrouter.ai/api/v1", "http://localhost:8000/v1".
        model: As the endpoint calls it.
        name: As the leaderboard shows it; by default the model's.
        key_variable: Name of the environment variable that holds the key; None where none is needed.
        samples: Summaries of each document and budget.
        prompt: Wording and tags. A chat model opens the summary's tag itself.
        bare: Take the whole answer as the summary; for models that write no tags.
        temperature: None leaves it to the server.
        max_tokens: Most tokens of an answer, those of its reasoning among them; None leaves it to the server.
        reasoning_effort: None leaves it to the server.
        extra: Further fields of the request, as the server calls them: {"top_p": 0.9}. Part of the identity: no keys.
        prices: For the cost, where the server does not report it (OpenRouter does).
        concurrency: Most requests under way at once, those that wait to be repeated among them.
        patience: Time limits and retries.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        name: str | None = None,
        key_variable: str | None = None,
        samples: int = 1,
        prompt: PromptTemplate = PromptTemplate(),
        bare: bool = False,
        temperature: float | None = None,
        max_tokens: int | None = 4096,
        reasoning_effort: Effort | None = None,
        extra: Mapping[str, Any] | None = None,
        prices: Prices | None = None,
        concurrency: int = 8,
        patience: Patience = Patience(),
    ) -> None:
        super().__init__(name or model, samples)
        self.base_url, self.model, self.key_variable = base_url.rstrip("/"), model, key_variable
        self.prompt, self.bare = prompt, bare
        self.temperature, self.max_tokens, self.reasoning_effort = temperature, max_tokens, reasoning_effort
        self.extra, self.prices = dict(extra or {}), prices
        self.concurrency, self.patience = concurrency, patience
        self._lessons = Lessons(self.name)

    @property
    def identity(self) -> str:
        """Endpoint, model, wording and sampling, as JSON."""
        prompt = {key: getattr(self.prompt, key) for key in ("instruction", "open_tag", "close_tag", "system")}
        facts = {"endpoint": self.base_url, "prompt": prompt, "bare": self.bare}
        return json.dumps(facts | self._settings, sort_keys=True)

    @property
    def _settings(self) -> dict[str, Any]:
        """Fields of every request; those left to the server are not sent, as not every server knows them."""
        settings = {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "reasoning_effort": self.reasoning_effort,
            "extra_body": self.extra or None,
        }
        return {key: value for key, value in settings.items() if value is not None}

    def problems(self) -> list[str]:
        """What is wrong with the settings or the environment, a sentence each; never names a key."""
        found = _url_problems(self.base_url) + self._key_problems() + self._prompt_problems()
        if not self.model.strip():
            found.append("model must name a model of the endpoint, but is empty")
        for name in ("samples", "concurrency", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                found.append(f"{name} must be at least 1, but is {value}")
        numbers = {"temperature": self.temperature}
        if self.prices is not None:
            numbers |= {f"prices.{key}": value for key, value in asdict(self.prices).items()}
        found += [
            f"{name} must be a number of at least 0, but is {value}"
            for name, value in numbers.items()
            if value is not None and not 0 <= value < math.inf
        ]
        if self.reasoning_effort not in (None, *_EFFORTS):
            found.append(f"reasoning_effort must be one of {', '.join(_EFFORTS)}, but is {self.reasoning_effort!r}")
        if taken := [key for key in _OURS if key in self.extra]:
            found.append(f"extra must leave {', '.join(_OURS)} alone, but sets {', '.join(taken)}")
        return found + self.patience.problems()

    def check(self) -> None:
        """Looks whether there is a server, and whether it takes the key.

        Raises:
            ModelError: There is none, or it does not.
        """
        try:
            with start_blocking_portal() as portal:
                status = portal.call(self._status)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = one_line(str(error)) or f"no connection within {self.patience.connect_seconds:g} seconds"
            raise ModelError(
                f"{self.name}: cannot reach {self.base_url} ({reason}): start the server, or correct base_url"
            ) from None
        except (httpx2.HTTPError, TimeoutError):
            return  # it is there, if in trouble: requests are repeated
        if status == 401:
            key = f"the key in {self.key_variable}" if self._key else "requests without key (set key_variable)"
            raise ModelError(f"{self.name}: {self.base_url} does not take {key}: HTTP 401")

    async def _status(self) -> int:
        """Of any answer: not every server lists its models."""
        wait = self.patience.connect_seconds
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        async with httpx2.AsyncClient(timeout=wait) as client:
            with anyio.fail_after(2 * wait):  # as long again for the answer: the client's own limit is for each byte
                async with client.stream("GET", f"{self.base_url}/models", headers=headers) as response:
                    status = response.status_code
        return status

    def portions(self, tasks: Sequence[Task]) -> list[Sequence[Task]]:
        """One by one."""
        return [[task] for task in tasks]

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Asks for all summaries; see `work_through`."""
        return self.work_through(iter([tasks]))

    def work_through(self, portions: Iterator[Sequence[Task]]) -> Iterator[tuple[Task, Answer]]:
        """Asks for all summaries, `concurrency` at a time, and yields each as soon as it is there.

        The requests run in a thread of their own, and as many tasks wait there in line, so no request waits while an
        answer is stored. Closing the generator ends them.

        Raises:
            ConfigError: The settings have problems, or the key's variable is not set.
        """
        if found := self.problems():
            raise ConfigError(found)
        tasks = (task for portion in portions for task in portion)
        answers: SimpleQueue[tuple[Task, Answer] | None] = SimpleQueue()
        given, waiting = anyio.create_memory_object_stream[tuple[Task, int]](2 * self.concurrency)
        with start_blocking_portal() as portal:
            job = portal.start_task_soon(self._ask_all, waiting, answers)
            job.add_done_callback(lambda _: answers.put(None))
            under_way = 0
            try:
                while True:
                    for task in islice(tasks, 2 * self.concurrency - under_way):
                        # here and not in the thread: the tokenizer may be in use
                        portal.call(given.send_nowait, (task, self._limit(task)))
                        under_way += 1
                    if not under_way or (answer := answers.get()) is None:
                        break
                    under_way -= 1
                    yield answer
                portal.call(given.close)
                job.result()
            finally:
                job.cancel()

    async def _ask_all(
        self,
        waiting: MemoryObjectReceiveStream[tuple[Task, int]],
        answers: SimpleQueue[tuple[Task, Answer] | None],
    ) -> None:
        asker = Asker(self.name, self.base_url, self._key, self.patience, self._lessons)

        async def work() -> None:
            async for task, limit in waiting:
                answers.put((task, await self._ask(asker, task, limit)))

        async with asker.client, waiting, anyio.create_task_group() as workers:
            for _ in range(self.concurrency):
                workers.start_soon(work)

    async def _ask(self, asker: Asker, task: Task, limit: int) -> Answer:
        messages = self.prompt.messages(whole_characters(task.document.text), Budget.parse(task.budget), limit)
        start = time.monotonic()
        try:
            reply = await asker.ask({**self._settings, "messages": messages})
        except Unanswered as failure:
            outcome, summary, reason, usage = Outcome.FAILED, None, failure.reason, Usage()
        else:
            (outcome, summary, reason), usage = self._read(reply), reply.usage or Usage()
        return Answer(
            outcome=outcome,
            summary=None if summary is None else asker.hide(summary),
            reason=asker.hide(reason),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=self._cost(usage),
            seconds=time.monotonic() - start,
        )

    def _read(self, reply: Reply) -> tuple[Outcome, str | None, str]:
        """What a reply comes to: its outcome, summary and reason."""
        if not reply.choices:
            return Outcome.FAILED, None, "a reply without choices"
        choice = reply.choices[0]
        refusal = choice.message.refusal if choice.message else None
        text = without_thought(answer_text(choice, self.prompt), self.prompt, self.bare)
        if refusal:
            reason = f"refused: {one_line(refusal)}"
        elif choice.finish_reason == "content_filter":
            reason = "stopped by the content filter"
        elif (summary := (text.strip() or None) if self.bare else find_summary(text, self.prompt)) is not None:
            return Outcome.WRITTEN, summary, ""
        elif choice.finish_reason == "length":
            reason = "the token limit came before the end of the summary"
        else:
            reason = f"no {self.prompt.close_tag} in the answer" if text.strip() else "an empty answer"
        return Outcome.UNPARSABLE, None, reason

    def _cost(self, usage: Usage) -> float | None:
        """US dollars: what the server says, or tokens times prices."""
        if usage.cost is not None or self.prices is None:
            return usage.cost
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        return (usage.prompt_tokens * self.prices.prompt + usage.completion_tokens * self.prices.completion) / 1e6

    def _limit(self, task: Task) -> int:
        """The longest summary, in what the budget counts."""
        budget = Budget.parse(task.budget)
        return budget.limit(task.document.text, self.tokenizer)

    @property
    def _key(self) -> str | None:
        return os.environ.get(self.key_variable, "").strip() if self.key_variable else None

    def _key_problems(self) -> list[str]:
        if self.key_variable is None:
            return []
        if not re.fullmatch("[A-Z_][A-Z0-9_]*", self.key_variable):  # not shown: it may be a key
            return ["key_variable must be the NAME of an environment variable, in capitals, and never a key itself"]
        if not self._key:
            return [f"the environment variable {self.key_variable} must hold the key of {self.name}, but is not set"]
        if not re.fullmatch("[!-~]+", self._key):
            return [f"the environment variable {self.key_variable} must hold a key, but has spaces or odd characters"]
        return []

    def _prompt_problems(self) -> list[str]:
        found, tags = self.prompt.problems(), (self.prompt.open_tag, self.prompt.close_tag)
        asked = [bool(tag.strip()) and tag in self.prompt.instruction for tag in tags]
        if self.bare and any(asked):
            found.append(f"bare takes the whole answer, but prompt.instruction asks for {tags[0]}: set one of the two")
        if self.prompt.thinking is not None:
            found.append("prompt.thinking is for local models: leave it out, and set reasoning_effort")
        if not self.bare and not all(asked):
            found.append(f"prompt.instruction must ask for {' and '.join(tags)}, or set bare to take the whole answer")
        return found


def _url_problems(url: str) -> list[str]:
    """What is wrong with an address; it is not shown, as it may hold a password."""
    try:
        httpx2.URL(url)  # knows more mistakes than the other one, but not all
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx2.InvalidURL):
        usable = False
    if not usable:
        return ["base_url must be an address such as https://openrouter.ai/api/v1 or http://localhost:8000/v1"]
    if parts.username or parts.password or parts.query or parts.fragment:
        return ["base_url must hold no user, password or query: name the key's environment variable in key_variable"]
    return []
