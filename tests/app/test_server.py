"""The page's server: its own page alone may ask it, and whatever is wrong is a sentence."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from app_serving import served
from cli_tools import run_cli

from squish_pl.app.server import MOST_BYTES
from squish_pl.app.workbench import Workbench
from squish_pl.cli.app import _hosts, _listen
from squish_pl.errors import ModelError

ASKED = {"document": "The ferry left at dawn.", "summary": "A ferry.", "budget": "50%", "name": "You"}


@pytest.fixture(scope="module")
def address(bench: Workbench) -> Iterator[str]:
    with served(lambda: bench) as found:
        wait(found, "ready")
        yield found


def ask(address: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
    given = {} if body is None else {"content-type": "application/json"}
    request = urllib.request.Request(address, body, given | {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status, head, text = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        status, head, text = error.code, error.headers, error.read()
    is_json = head.get("content-type") == "application/json"
    return status, head, json.loads(text) if is_json else text.decode()


def wait(address: str, state: str) -> str:
    for _ in range(200):
        found = ask(f"{address}/status")[2]
        if found["state"] == state:
            return str(found["told"])
        time.sleep(0.05)
    raise AssertionError(found)


def test_it_scores_and_writes(address: str, bench: Workbench) -> None:
    status, head, found = ask(f"{address}/score", json.dumps(ASKED).encode())
    assert (status, found) == (200, json.loads(json.dumps(bench.score(*(ASKED[k] for k in ASKED)))))
    assert head["cache-control"] == "no-store"
    for who, adapted in (("before", False), ("after", True)):
        body = json.dumps({**ASKED, "who": who}).encode()
        assert ask(f"{address}/write", body)[2] == bench.write(ASKED["document"], "50%", adapted)


def test_the_page_loads_nothing_from_elsewhere(address: str) -> None:
    status, head, page = ask(address)
    assert status == 200
    assert head["content-security-policy"] == "frame-ancestors 'none'"
    assert "default-src 'none'; script-src 'sha256-" in page
    assert "connect-src 'self'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "tiny &lt;b&gt;model&lt;/b&gt;" in page


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{", {}, 400, "Expected a JSON object with the texts document, summary, budget, name"),
        (b"[]", {}, 400, "Expected a JSON object"),
        (json.dumps(ASKED | {"summary": 3}).encode(), {}, 400, "Expected a JSON object"),
        (b"\xff", {}, 400, "Expected a JSON object"),
        (b"[" * 100_000, {}, 400, "Expected a JSON object"),
        (b'"' + b"x" * MOST_BYTES, {}, 413, "too long"),
        (json.dumps(ASKED).encode(), {"content_type": "text/plain"}, 415, "JSON"),
        (json.dumps(ASKED | {"budget": "much"}).encode(), {}, 400, "Expected a budget such as"),
        (json.dumps(ASKED | {"document": "\ud83d"}).encode(), {}, 200, ""),  # half a character is a question mark
    ],
)
def test_wrong_requests(address: str, body: bytes, headers: dict[str, str], status: int, words: str) -> None:
    found = ask(f"{address}/score", body, **headers)
    assert found[0] == status
    assert words in found[2].get("problem", "")


def test_a_foreign_name_that_leads_here_is_refused(address: str) -> None:
    assert ask(address, host="evil.example")[0] == 400
    assert ask(address, host="localhost")[0] == 200
    assert _hosts("127.0.0.1") == ["127.0.0.1", "localhost", "[::1]", "127.0.0.1"]
    assert _hosts("0.0.0.0") == ["*"]


def test_a_failure_of_ours_is_a_sentence_too(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def score(self, *texts: str) -> dict[str, Any]:
            raise RuntimeError("secret details")

    with served(Broken) as address:
        wait(address, "ready")
        status, _, found = ask(f"{address}/score", json.dumps(ASKED).encode())
    assert status == 500
    assert found == {"problem": "Something went wrong in the server; its log has the details."}
    assert "secret details" in caplog.text


def test_what_is_loaded_is_told_and_why_it_cannot_be() -> None:
    def slow() -> Any:
        time.sleep(1.5)
        raise ModelError("there is no such model")

    with served(slow) as address:
        assert wait(address, "loading") == "Loading a tiny model …"
        assert ask(f"{address}/score", json.dumps(ASKED).encode())[2] == {"problem": "Loading a tiny model …"}
        assert wait(address, "failed") == "there is no such model"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--adapter", "nowhere"], "adapter: expected a PEFT adapter folder"),
        (["--base", "./nowhere"], "there is no folder './nowhere'"),
        (["--port", "70000"], "port must be a number from 0 to 65535"),
        (["--budget", "ten"], "expected a budget such as"),
        (["--max_tokens", "0"], "max_tokens must be at least 1"),
    ],
)
def test_mistakes_of_the_command(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_cli(["app", *arguments], capsys)
    assert code == 2
    assert words in err


def test_a_taken_port_is_one_message(tiny_model_folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with _listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = run_cli(["app", "--base", str(tiny_model_folder), "--port", port], capsys)
    assert code == 2
    assert f"cannot listen at 127.0.0.1, port {port}" in err
