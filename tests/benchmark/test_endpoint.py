"""Endpoint against a server that behaves badly: every document ends as it should, soon, and the key stays secret."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_server import SUMMARY, HostileServer, hostile_server
from transformers import PreTrainedTokenizerFast

from squish_pl.benchmark.contenders import asking
from squish_pl.benchmark.contenders.asking import Patience, _seconds
from squish_pl.benchmark.contenders.endpoint import Endpoint, Prices
from squish_pl.benchmark.records import Answer, Outcome, Task
from squish_pl.errors import ConfigError, ModelError
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.thinking import Thinking
from squish_pl.types import Document

KEY = "sk-squish-3141592653589793"
QUICK = Patience(connect_seconds=1, answer_seconds=1, retries=2, first_wait=0.01, longest_wait=0.4)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUISH_TEST_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-another-service")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-for-another-service")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as running:
        yield running


def endpoint(url: str, **settings: Any) -> Endpoint:
    return Endpoint(**{"name": "e", "base_url": url, "model": "m", "patience": QUICK, **settings})


def tasks(*behaviours: str, budget: str = "10%") -> list[Task]:
    return [Task(Document(f"Article {i} <<{name}>> " + "word " * 20), budget) for i, name in enumerate(behaviours)]


def ask(contender: Endpoint, *behaviours: str) -> dict[str, Answer]:
    asked = tasks(*behaviours)
    answers = list(contender.summarise(asked))
    assert sorted(task.document.text for task, _ in answers) == sorted(task.document.text for task in asked)
    return {task.document.text.split("<<")[1].split(">>")[0]: answer for task, answer in answers}


ENDS = {  # behaviour: how it ends, what the reason says, requests it takes
    "odd cookie": (Outcome.WRITTEN, "", 1),  # first: sent back, it would spoil every later request
    "normal": (Outcome.WRITTEN, "", 1),
    "429 once": (Outcome.WRITTEN, "", 2),
    "429 for an hour once": (Outcome.WRITTEN, "", 2),
    "500 once": (Outcome.WRITTEN, "", 2),
    "cut once": (Outcome.WRITTEN, "", 2),
    "closed once": (Outcome.WRITTEN, "", 2),
    "error 502 once": (Outcome.WRITTEN, "", 2),
    "500": (Outcome.FAILED, "HTTP 500: it broke", 3),
    "500 empty": (Outcome.FAILED, "HTTP 500: no message", 3),
    "page": (Outcome.FAILED, "HTTP 502: 502 Bad gateway", 3),
    "steering": (Outcome.FAILED, "HTTP 400: [31mred 2J and more", 1),  # nothing of it reaches a terminal
    "400": (Outcome.FAILED, "HTTP 400: context too long", 1),
    "moderated": (Outcome.FAILED, "HTTP 403: flagged", 1),
    "drip": (Outcome.FAILED, "no whole answer within 1 seconds", 1),
    "hang": (Outcome.FAILED, "no whole answer within 1 seconds", 1),
    "cut": (Outcome.FAILED, "connection lost", 3),
    "closed": (Outcome.FAILED, "connection lost", 3),
    "garbage": (Outcome.FAILED, "connection lost", 3),
    "redirect": (Outcome.FAILED, "HTTP 307: redirected to /v2/chat/completions", 1),
    "redirect to nowhere": (Outcome.FAILED, "not an HTTP answer: URL must be absolute", 1),
    "broken json": (Outcome.FAILED, "not the JSON of a chat completion", 1),
    "text": (Outcome.FAILED, "not the JSON of a chat completion", 1),
    "list": (Outcome.FAILED, "not the JSON of a chat completion", 1),
    "empty choices": (Outcome.FAILED, "a reply without choices", 1),
    "null": (Outcome.FAILED, "a reply without choices", 1),
    "10 MB": (Outcome.FAILED, "an answer of more than 1000000 bytes", 1),
    "endless": (Outcome.FAILED, "an answer of more than 1000000 bytes", 1),
    "error text": (Outcome.FAILED, "error: model is loading", 1),
    "error in choice": (Outcome.FAILED, "error: overloaded", 1),
    "reasoning": (Outcome.WRITTEN, "", 1),
    "thoughts": (Outcome.WRITTEN, "", 1),
    "parts": (Outcome.WRITTEN, "", 1),
    "many parts": (Outcome.WRITTEN, "", 1),
    "bare part": (Outcome.WRITTEN, "", 1),
    "odd parts": (Outcome.WRITTEN, "", 1),
    "odd content": (Outcome.UNPARSABLE, "an empty answer", 1),
    "refusal part": (Outcome.UNPARSABLE, "refused: I cannot help", 1),
    "odd reasoning": (Outcome.WRITTEN, "", 1),
    "all reasoning": (Outcome.WRITTEN, "", 1),
    "all reasoning, cut off": (Outcome.UNPARSABLE, "the token limit came before", 1),
    "only a draft": (Outcome.UNPARSABLE, "an empty answer", 1),
    "lost in thought": (Outcome.UNPARSABLE, "the token limit came before", 1),
    "cut off": (Outcome.UNPARSABLE, "the token limit came before", 1),
    "no tags": (Outcome.UNPARSABLE, "no </summary> in the answer", 1),
    "empty": (Outcome.UNPARSABLE, "an empty answer", 1),
    "no message": (Outcome.UNPARSABLE, "an empty answer", 1),
    "refusal": (Outcome.UNPARSABLE, "refused: I cannot help", 1),
    "filtered": (Outcome.UNPARSABLE, "stopped by the content filter", 1),
    "odd usage": (Outcome.WRITTEN, "", 1),
}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def test_every_document_ends_as_it_should_and_soon(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_GIVE_UP_AFTER", 1000)
    start = time.monotonic()
    answers = ask(endpoint(server.url, concurrency=4), *ENDS)
    for name, (outcome, reason, requests) in ENDS.items():
        assert answers[name].outcome is outcome, (name, answers[name])
        assert answers[name].reason.startswith(reason), (name, answers[name])
        assert bool(answers[name].reason) == (outcome is not Outcome.WRITTEN)
        assert answers[name].summary == (SUMMARY if outcome is Outcome.WRITTEN else None), name
        assert server.seen[name] == requests, name
    assert time.monotonic() - start < 6


def test_retry_after_is_waited_for_up_to_the_cap(server: HostileServer) -> None:
    answers = ask(endpoint(server.url), "429 once", "429 for an hour once")
    assert 0.3 <= answers["429 once"].seconds < 2
    assert 0.4 <= answers["429 for an hour once"].seconds < 2


def test_retry_after_is_a_number_or_a_date() -> None:
    assert _seconds("2.5") == 2.5
    assert 3_000_000_000 > _seconds("Fri, 01 Jan 2100 00:00:00 GMT") > 1_000_000_000
    assert [_seconds(text) for text in ("", "soon", "-1", "nan", "inf", "Fri, 01 Jan 1999 00:00:00 GMT")] == [0] * 6


def test_concurrency_stays_at_its_limit(server: HostileServer) -> None:
    answers = list(endpoint(server.url, concurrency=3).summarise(tasks(*["slow"] * 12)))
    assert len(answers) == 12
    assert server.most_at_once == 3


def test_answers_come_as_they_are_ready_while_others_go_on(server: HostileServer) -> None:
    order = [task.document.text for task, _ in endpoint(server.url).summarise(tasks("drip", "slow", "normal"))]
    assert [text[8] for text in order] == ["2", "1", "0"]


@pytest.mark.parametrize("status", ["401", "404", "redirect"])
def test_an_endpoint_that_refuses_everything_is_given_up(server: HostileServer, status: str) -> None:
    start = time.monotonic()
    answers = [answer for _, answer in endpoint(server.url, concurrency=4).summarise(tasks(*[status] * 300))]
    assert len(answers) == 300
    assert len({answer.reason for answer in answers}) == 1
    assert answers[0].reason.startswith("HTTP ")
    assert 3 <= server.seen[status] <= 6
    assert time.monotonic() - start < 2


def test_an_unreachable_endpoint_is_given_up_in_spite_of_long_waits() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        patience = dataclasses.replace(QUICK, first_wait=0.3, longest_wait=30, retries=1)
        contender = endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", concurrency=4, patience=patience)
        start = time.monotonic()
        answers = [answer for _, answer in contender.summarise(tasks(*["normal"] * 300))]
    assert {answer.outcome for answer in answers} == {Outcome.FAILED}
    assert all(answer.reason.startswith("no connection: ") for answer in answers)
    assert time.monotonic() - start < 3


def test_refusals_between_answers_do_not_give_up(server: HostileServer) -> None:
    names = ["normal", "401", "404"] * 5
    answers = [answer.outcome for _, answer in endpoint(server.url, concurrency=1).summarise(tasks(*names))]
    assert answers.count(Outcome.WRITTEN) == 5


def test_closing_early_cancels_what_is_under_way(server: HostileServer) -> None:
    threads = set(threading.enumerate())
    answers = endpoint(server.url, concurrency=4, patience=Patience()).summarise(tasks("normal", *["drip"] * 20))
    next(answers)
    wait_until(lambda: server.seen["drip"] == 4)
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 1
    assert set(threading.enumerate()) <= threads
    wait_until(lambda: server.left_early == 4)
    assert server.seen["drip"] == 4


def test_no_tasks_no_requests(server: HostileServer) -> None:
    assert list(endpoint(server.url).summarise([])) == []
    assert server.requests == []


def test_ctrl_c_ends_it(server: HostileServer) -> None:
    def press() -> None:
        wait_until(lambda: server.seen["hang"] == 8)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.monotonic()
    threading.Thread(target=press, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(endpoint(server.url, patience=Patience()).summarise(tasks(*["hang"] * 9)))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - start < 3
    wait_until(lambda: server.left_early == 8)


def test_tokens_cost_and_seconds(server: HostileServer) -> None:
    answers = ask(
        endpoint(server.url, prices=Prices(prompt=3, completion=15)), "normal", "cost", "odd usage", "no tags"
    )
    assert (answers["normal"].prompt_tokens, answers["normal"].completion_tokens) == (1000, 200)
    assert answers["normal"].cost == answers["no tags"].cost == pytest.approx(0.003 + 0.003)
    assert answers["cost"].cost == 0.5  # what was charged, whatever the price list says
    assert (answers["odd usage"].prompt_tokens, answers["odd usage"].cost) == (None, None)
    assert 0 < answers["normal"].seconds < 1
    assert ask(endpoint(server.url), "normal")["normal"].cost is None


def test_the_request_says_what_was_set_and_nothing_else(server: HostileServer) -> None:
    ask(endpoint(server.url), "normal")
    settings = {"temperature": 0.7, "max_tokens": 99, "reasoning_effort": "low", "extra": {"top_p": 0.9}}
    ask(endpoint(server.url, **settings, prompt=PromptTemplate(system="Be brief.")), "normal")
    plain, full = server.requests
    assert plain.keys() == {"model", "messages", "max_tokens"}
    assert {key: full[key] for key in full if key != "messages"} == {
        "model": "m", "temperature": 0.7, "max_tokens": 99, "reasoning_effort": "low", "top_p": 0.9
    }  # fmt: skip
    assert full["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "at most 12 characters" in plain["messages"][0]["content"]
    assert "another-service" not in "".join(server.headers)


def test_half_a_surrogate_pair_and_field_names_in_a_document_do_no_harm(server: HostileServer) -> None:
    contender = endpoint(server.url)
    [(_, answer)] = contender.summarise([Task(Document("Half \ud83d of {limit} and {document}"), "500 chars")])
    assert answer.outcome is Outcome.WRITTEN
    assert "Half ? of {limit} and {document}" in server.requests[0]["messages"][0]["content"]


def test_token_budgets(server: HostileServer, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    contender = endpoint(server.url)
    contender.tokenizer = byte_tokenizer
    for budget, words in (("64 tokens", "at most 64 tokens."), ("50% tokens", "at most 60 tokens.")):
        list(contender.summarise(tasks("normal", budget=budget)))
        assert words in server.requests[-1]["messages"][0]["content"]


def test_bare_takes_the_whole_answer(server: HostileServer) -> None:
    plain = PromptTemplate(instruction="{document}\n\nA summary of at most {limit}, and nothing else:")
    answers = ask(endpoint(server.url, bare=True, prompt=plain), "no tags", "thoughts", "empty")
    assert answers["no tags"].summary == "Eleven boats."
    assert answers["thoughts"].summary.startswith("Here it is:")
    assert answers["empty"].outcome is Outcome.UNPARSABLE


@contextlib.contextmanager
def everything_logged(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    loggers = [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    levels = [logger.level for logger in loggers]
    logging.root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        logging.root.removeHandler(handler)
        handler.close()


def test_the_key_is_sent_and_shows_nowhere(
    server: HostileServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with everything_logged(tmp_path / "all.log"):
        contender = endpoint(server.url, key_variable="SQUISH_TEST_KEY", concurrency=2)
        bad = [name for name in ENDS if name not in ("drip", "hang")]
        names = [name for trouble in bad for name in ("normal", "normal", trouble)]
        answers = list(contender.summarise(tasks(*names, *["401"] * 5)))
        closed = contender.summarise(tasks("normal", "hang"))
        next(closed)
        closed.close()
    log = (tmp_path / "all.log").read_text()
    assert "send_request_headers" in log  # the transport did log
    assert "nothing more is asked" in log
    assert f"Bearer {KEY}" in "".join(server.headers)
    assert answers[-1][1].reason == "HTTP 401: Incorrect API key provided: [the key]"
    shown = [log, *capfd.readouterr(), repr(contender), str(vars(contender)), contender.identity, repr(answers)]
    assert KEY not in "".join(shown)


def test_a_key_variable_that_is_not_set_is_one_clear_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQUISH_TEST_KEY")
    contender = endpoint("http://127.0.0.1:9/v1", key_variable="SQUISH_TEST_KEY")
    assert contender.problems() == ["the environment variable SQUISH_TEST_KEY must hold the key of e, but is not set"]
    with pytest.raises(ConfigError, match="SQUISH_TEST_KEY"):
        next(contender.summarise(tasks("normal")))
    monkeypatch.setenv("SQUISH_TEST_KEY", f"{KEY}\nX-Header: 1")
    assert "odd characters" in contender.problems()[0]
    assert KEY not in contender.problems()[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url must be an address"),
        ({"base_url": "http://[::1"}, "base_url must be an address"),
        ({"base_url": "http://192.168.1.300:8000/v1"}, "base_url must be an address"),
        ({"base_url": "http://zwei..pünkte/v1"}, "base_url must be an address"),
        ({"base_url": "http://host:99999/v1"}, "base_url must be an address"),
        ({"base_url": f"http://user:{KEY}@host/v1"}, "base_url must hold no user"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "base_url must hold no user"),
        ({"key_variable": KEY}, "key_variable must be the NAME"),
        ({"model": " "}, "model must name a model"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"prices": Prices(-1, 1)}, "prices.prompt must be a number"),
        ({"reasoning_effort": "huge"}, "reasoning_effort must be one of"),
        ({"extra": {"stream": True}}, "extra must leave"),
        ({"patience": Patience(answer_seconds=0)}, "patience.answer_seconds must be above 0"),
        ({"patience": Patience(retries=-1)}, "patience.retries must not be negative"),
        ({"prompt": PromptTemplate(instruction="Summarise.")}, "prompt.instruction must hold {document}"),
        ({"prompt": PromptTemplate(instruction="{document}")}, "prompt.instruction must ask for <summary>"),
        ({"bare": True}, "bare takes the whole answer"),
        ({"prompt": PromptTemplate(thinking=Thinking())}, "prompt.thinking is for local models"),
    ],
)
def test_a_wrong_setting_is_named_and_no_key_is_shown(settings: dict[str, Any], words: str) -> None:
    found = endpoint("http://127.0.0.1:9/v1", **settings).problems()
    assert any(problem.startswith(words) for problem in found), found
    assert KEY not in "".join(found)


def test_identity_holds_what_decides_the_text_and_nothing_else(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    url = "http://127.0.0.1:9/v1"
    same = endpoint(url).identity
    assert json.loads(same)["endpoint"] == url
    others: list[dict[str, Any]] = [{"concurrency": 2}, {"patience": Patience()}, {"samples": 3}, {"name": "other"}]
    assert all(endpoint(url, **settings).identity == same for settings in others)
    assert endpoint(url + "/").identity == same
    deciding: list[dict[str, Any]] = [
        {"model": "n"}, {"temperature": 0.0}, {"max_tokens": 5}, {"reasoning_effort": "low"}, {"extra": {"a": 1}},
        {"bare": True}, {"prompt": PromptTemplate(system="x")}, {"base_url": "http://127.0.0.1:8/v1"},
    ]  # fmt: skip
    assert all(endpoint(url, **settings).identity != same for settings in deciding)
    counting = endpoint(url)
    counting.tokenizer = byte_tokenizer
    assert counting.identity == same  # it decides only where a budget counts tokens


def test_the_name_is_the_models_where_none_is_given() -> None:
    assert Endpoint("http://127.0.0.1:9/v1", "some/model").name == "some/model"
    assert Endpoint("http://127.0.0.1:9/v1", "some/model", "own").name == "own"
    assert not Endpoint.is_free
    assert not Endpoint.is_baseline


@pytest.mark.parametrize(
    "behaviour", ["normal", "404", "moderated", "429", "500", "page", "redirect", "10 MB", "endless", "garbage", "cut"]
)
def test_the_check_takes_any_answer_but_401(server: HostileServer, behaviour: str) -> None:
    server.models = behaviour
    start = time.monotonic()
    endpoint(server.url).check()
    assert time.monotonic() - start < 3
    assert server.seen == {behaviour: 1}  # asked once, and not again
    assert server.headers[0].startswith("GET /v1/models HTTP/1.1\r\n")
    assert "authorization" not in server.headers[0].lower()
    assert server.requests == []  # and no model was asked


def test_the_check_sends_the_key_and_never_shows_it(
    server: HostileServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.models = "401"  # with the key in its message
    with everything_logged(tmp_path / "all.log"):
        with pytest.raises(ModelError) as refused:
            endpoint(server.url, key_variable="SQUISH_TEST_KEY").check()
        server.models = "normal"
        endpoint(server.url, key_variable="SQUISH_TEST_KEY").check()
    assert str(refused.value) == f"e: {server.url} does not take the key in SQUISH_TEST_KEY: HTTP 401"
    assert [f"Bearer {KEY}\r\n" in head for head in server.headers] == [True, True]
    log = (tmp_path / "all.log").read_text()
    assert "send_request_headers" in log  # the transport did log
    assert KEY not in "".join([log, *capfd.readouterr(), *traceback.format_exception(refused.value)])


def test_the_check_asks_for_a_key_where_there_is_none(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.models = "401"
    message = f"e: {server.url} does not take requests without key (set key_variable): HTTP 401"
    with pytest.raises(ModelError) as without:
        endpoint(server.url).check()
    monkeypatch.delenv("SQUISH_TEST_KEY")
    with pytest.raises(ModelError) as unset:
        endpoint(server.url, key_variable="SQUISH_TEST_KEY").check()
    assert [str(without.value), str(unset.value)] == [message] * 2
    assert "authorization" not in "".join(server.headers).lower()


def test_the_check_finds_that_there_is_no_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ModelError) as refused:
            endpoint(url, key_variable="SQUISH_TEST_KEY").check()
    expected = f"e: cannot reach {url} (All connection attempts failed): start the server, or correct base_url"
    assert str(refused.value) == expected
    assert KEY not in str(refused.value)


def test_the_check_finds_that_a_name_is_none() -> None:
    with pytest.raises(ModelError, match=r"^e: cannot reach http://x{70}/v1 \(.*\): start the server, or correct"):
        endpoint(f"http://{'x' * 70}/v1").check()  # a label has at most 63 characters


def test_the_check_waits_no_longer_than_for_a_connection(server: HostileServer) -> None:
    server.models = "hang"
    patience = Patience(connect_seconds=0.3)  # while an answer may take minutes
    start = time.monotonic()
    endpoint(server.url, patience=patience).check()  # it is there: its answers may come yet
    assert 0.3 <= time.monotonic() - start < 3
    wait_until(lambda: server.left_early == 1)


def test_the_check_does_not_wait_for_a_head_that_drips(server: HostileServer) -> None:
    server.models = "drip head"  # so that no byte is long in coming
    start = time.monotonic()
    endpoint(server.url, patience=Patience(connect_seconds=0.3)).check()
    assert 0.6 <= time.monotonic() - start < 3
    wait_until(lambda: server.left_early == 1)
