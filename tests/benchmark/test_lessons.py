"""What an endpoint refuses is learnt from its first refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hostile_server import SUMMARY, HostileServer, hostile_server

from squish_pl.benchmark.contenders.asking import Patience
from squish_pl.benchmark.contenders.endpoint import Endpoint
from squish_pl.benchmark.contenders.lessons import Lessons
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.types import Document


def error(message: str, **fields: Any) -> str:
    return json.dumps({"error": {"message": message, **fields}})


WANTS_OTHER = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    param="max_tokens",
    code="unsupported_parameter",
)
FASTAPI = json.dumps(
    {"detail": [{"loc": ["body", "max_completion_tokens"], "msg": "Extra inputs are not permitted", "input": 4096}]}
)
NO_TEMPERATURE = error(
    "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.",
    param="temperature",
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with hostile_server() as running:
        yield running


def endpoint(server: HostileServer, **settings: Any) -> Endpoint:
    patience = Patience(connect_seconds=1, answer_seconds=1, retries=2, first_wait=0.01, longest_wait=0.4)
    return Endpoint(server.url, "m", "e", patience=patience, **{"concurrency": 1, **settings})


def ask(contender: Endpoint, count: int = 3) -> list[Answer]:
    tasks = [Task(Document(f"Article {number} " + "word " * 20), "10%") for number in range(count)]
    return [answer for _, answer in contender.summarise(tasks)]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.endswith("lessons")]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_token_limit_goes_by_its_other_name(
    concurrency: int, server: HostileServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuses = {"max_tokens": WANTS_OTHER}
    contender = endpoint(server, max_tokens=77, concurrency=concurrency)
    identity = contender.identity
    answers = ask(contender, 12)
    assert [answer.summary for answer in answers] == [SUMMARY] * 12
    refused = [request for request in server.requests if "max_tokens" in request]
    assert 1 <= len(refused) <= concurrency
    assert [request["max_completion_tokens"] for request in server.requests if request not in refused] == [77] * 12
    assert told(caplog) == [
        "e: the endpoint does not take max_tokens, which is sent as max_completion_tokens from now on"
    ]
    ask(contender, 1)  # remembered for the contender's life
    assert "max_tokens" not in server.requests[-1]
    assert len(told(caplog)) == 1
    assert contender.identity == identity


def test_and_the_other_way_round(server: HostileServer) -> None:
    server.refuses = {"max_completion_tokens": FASTAPI}
    answers = ask(endpoint(server, max_tokens=None, extra={"max_completion_tokens": 77, "top_p": 0.9}))
    assert [answer.outcome for answer in answers] == [Outcome.WRITTEN] * 3
    assert len(server.requests) == 4
    assert (server.requests[-1]["max_tokens"], server.requests[-1]["top_p"]) == (77, 0.9)


def test_what_can_go_is_left_to_the_server(server: HostileServer, caplog: pytest.LogCaptureFixture) -> None:
    server.refuses = {
        "temperature": NO_TEMPERATURE,
        "seed": error("Unrecognized request argument supplied: seed"),
        "reasoning_effort": error("Provider error", metadata={"raw": '{"message": "unknown field reasoning_effort"}'}),
        "max_tokens": WANTS_OTHER,
    }
    contender = endpoint(server, temperature=0.5, reasoning_effort="low", extra={"seed": 1, "top_p": 0.9}, max_tokens=7)
    assert [answer.summary for answer in ask(contender)] == [SUMMARY] * 3
    assert len(server.requests) == 4 + 3
    assert server.requests[-1].keys() == {"model", "messages", "top_p", "max_completion_tokens"}
    assert len(told(caplog)) == 4
    assert told(caplog)[0] == "e: the endpoint does not take temperature, which is left to it from now on"


def test_a_server_that_takes_neither_is_not_asked_without_a_limit(server: HostileServer) -> None:
    server.refuses = {"max_tokens": WANTS_OTHER, "max_completion_tokens": error("Unknown: max_completion_tokens")}
    answers = ask(endpoint(server), 2)
    assert {answer.reason for answer in answers} == {"HTTP 400: Unknown: max_completion_tokens"}
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        error("max_tokens is too large: 4096. This model supports at most 1024 completion tokens."),
        error("This model does not support max_tokens greater than 1024"),
        error("The model `m` does not exist"),
        error("Unsupported parameter: 'top_p'", param="top_p"),
        error("context length exceeded, unexpected max_tokens"),
        json.dumps({"detail": [{"loc": ["body"], "msg": "not permitted", "input": {"max_tokens": 1}}]}),
        json.dumps(["not supported: max_tokens"]),
        "max_tokens",
    ],
)
def test_other_refusals_teach_nothing(body: str, server: HostileServer, caplog: pytest.LogCaptureFixture) -> None:
    server.refuses = {"max_tokens": body}
    answers = ask(endpoint(server), 2)
    assert {answer.outcome for answer in answers} == {Outcome.FAILED}
    assert len(server.requests) == 2
    assert told(caplog) == []


def test_a_field_that_was_not_sent_teaches_nothing() -> None:
    lessons = Lessons("e")
    assert not lessons.learn({"max_tokens": 5}, {"message": "temperature is not supported"})
    assert lessons.apply({"max_tokens": 5, "temperature": 1}) == {"max_tokens": 5, "temperature": 1}
