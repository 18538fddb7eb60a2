"""verifiers' own environment plays the taskset's tasks and records the score as their reward."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers.v1")

import verifiers.v1 as vf

from squish_pl.integrations.reward import shared_reward

DOCUMENT = "Ada Lovelace wrote notes on an engine that was never built. " * 3
ANSWERS = {"36": "Here: <summary>Ada wrote.</summary>", "54": "Ada wrote notes, but never closes it."}


class Chat(BaseHTTPRequestHandler):
    """Answers by the limit that the request names."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = body["messages"][-1]["content"]
        (text,) = (answer for limit, answer in ANSWERS.items() if f"at most {limit} characters" in request)
        message = {"role": "assistant", "content": text}
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        payload = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_two_episodes(endpoint: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    path = tmp_path / "documents.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in (DOCUMENT, "Left out. " * 9)))
    task = {"measure": "squish", "base": str(tiny_model_folder), "device": "cpu"}
    name = "squish_taskset_plugin"
    taskset = {"id": name, "documents": str(path), "most": 1, "budgets": ["20%", "30%"], "task": task}
    agent = {"harness": {"id": name}, "runtime": {"type": "subprocess"}}
    config = vf.SingleAgentEnvConfig.model_validate({"taskset": taskset, "agent": agent})
    env = vf.SingleAgentEnv(config)
    context = vf.ModelContext(model="fixed", client=vf.EvalClientConfig(base_url=endpoint, api_key_var="NO_KEY"))

    async def play() -> list[Any]:
        async with env.serving():
            return [await env.run_episode(one, context) for one in env.taskset]

    episodes = asyncio.run(play())
    assert [[error.message for error in episode.errors] for episode in episodes] == [[], []]
    good, bad = (episode.traces[0] for episode in episodes)
    assert [trace.task.data.budget for trace in (good, bad)] == ["20%", "30%"]
    assert [error.message for trace in (good, bad) for error in trace.errors] == []
    scorer = shared_reward(
        **config.taskset.task.model_dump(include=set(type(config.taskset.task).__annotations__))
    ).scorer
    assert good.reward == pytest.approx(float(scorer.score(DOCUMENT, ["Ada wrote."], "20%").score), abs=1e-6)
    assert good.reward != 0
    assert bad.reward == 0
    assert list(good.rewards) == ["squish"]
    assert [trace.metrics["valid"] for trace in (good, bad)] == [1.0, 0.0]
