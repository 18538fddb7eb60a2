"""One request to an OpenAI-compatible endpoint: asked with patience, answered with a `Reply` or a reason."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import anyio
import httpx2
import openai
import tenacity
from pydantic import ValidationError

from squish_pl.benchmark.contenders.lessons import Lessons
from squish_pl.benchmark.contenders.replies import Reply

log = logging.getLogger(__name__)

_MOST_BYTES = 1_000_000  # of an answer's body; the connection is closed on more
_GIVE_UP_AFTER = 3  # requests in a row that say nothing of their document
_AGAIN = frozenset({408, 409, 429})  # beside every 5xx
_OF_ENDPOINT = frozenset({401, 402, 403, 404, 429, 502, 503, 504})
_NOT_TAKEN = frozenset({400, 422})
_NOISE = re.compile(r"<(style|script)\b.*?(</\1>|\Z)|<[^<>]*>|[\x00-\x1f\x7f-\x9f]", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Patience:
    """How long an endpoint is waited for.

    Attributes:
        connect_seconds: Until a connection stands.
        answer_seconds: Until the answer is there, whole; a request that takes longer has failed and is not repeated.
        retries: Further requests after 429, 5xx or a lost connection.
        first_wait: Seconds before the first of them; each further wait is twice as long, and all have up to as much
            again added by chance, so that requests that failed together do not come back together.
        longest_wait: Seconds; no wait is longer, even where the server's Retry-After asks for it.
    """

    connect_seconds: float = 10.0
    answer_seconds: float = 300.0
    retries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [
            f"patience.{name} must be above 0 seconds, but is {value}"
            for name, value in vars(self).items()
            if name != "retries" and not 0 < value < math.inf
        ]
        if self.retries < 0:
            found.append(f"patience.retries must not be negative, but is {self.retries}")
        return found


class Unanswered(Exception):
    """No reply to a request.

    Args:
        reason: Why, for people; holds no key.
        again: Whether the same request may fare better later.
        of_endpoint: Whether it says more of the endpoint than of the document.
        wait: Seconds the server asks to wait.
        body: Of the error, where the server does not take the request.
    """

    def __init__(
        self, reason: str, again: bool = False, of_endpoint: bool = False, wait: float = 0.0, body: object = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.again, self.of_endpoint, self.wait, self.body = reason, again, of_endpoint, wait, body


class Asker:
    """Sends requests, waits and asks again; gives up when the endpoint itself is what fails.

    Retries are tenacity's and not the client's own: those have fixed waits, and do not see errors that arrive in
    the body of an answer with status 200.

    Args:
        name: Of the contender, for the log.
        base_url: Of the endpoint.
        key: API key; None where none is needed.
        patience: How long to wait, how often to ask.
        lessons: What the endpoint is known to refuse; more is added.
    """

    def __init__(self, name: str, base_url: str, key: str | None, patience: Patience, lessons: Lessons) -> None:
        self._name, self._key, self._patience, self._lessons = name, key, patience, lessons
        whole = patience.answer_seconds
        self.client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key or "none",  # without one the client would take OPENAI_API_KEY, which is not for this server
            timeout=openai.Timeout(whole, connect=patience.connect_seconds),
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"response": [_cap]},
                follow_redirects=False,  # the request would arrive as a GET, or at a server that nobody named
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none: requests stay independent
            ),
        )
        self.client.organization = self.client.project = None  # from the environment, and not for every server
        self._in_a_row = 0
        self._given_up = anyio.Event()
        self._last_reason = ""
        doubling = tenacity.wait_exponential(multiplier=patience.first_wait, max=patience.longest_wait)
        self._back_off = doubling + tenacity.wait_random(0, patience.first_wait)
        self._retrying = tenacity.AsyncRetrying(
            sleep=self._rest,
            stop=tenacity.stop_after_attempt(1 + patience.retries),
            wait=self._wait,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Unanswered) and error.again),
            reraise=True,
        )

    async def ask(self, request: dict[str, Any]) -> Reply:
        """Asks until there is a reply, or no hope for one.

        Args:
            request: Arguments of `chat.completions.create`.

        Raises:
            Unanswered: There is no reply; once the endpoint has been given up, at once and for every request.
        """
        try:
            reply: Reply = await self._retrying(self._once, request)
        except Unanswered as failure:
            if failure.of_endpoint:
                self._count(failure.reason)
            raise
        self._in_a_row = 0
        return reply

    def hide(self, text: str) -> str:
        """The text without the key, which some servers repeat in their messages."""
        return text.replace(self._key, "[the key]") if self._key else text

    async def _once(self, request: dict[str, Any]) -> Reply:
        """Asks, and again at once where the server refuses a field that it can be asked without."""
        while True:
            sent = self._lessons.apply(request)
            try:
                return await self._send(sent)
            except Unanswered as refusal:
                if not self._lessons.learn(sent, refusal.body):
                    raise

    async def _send(self, request: dict[str, Any]) -> Reply:
        if self._given_up.is_set():
            raise Unanswered(self._last_reason)
        seconds = self._patience.answer_seconds
        try:
            with anyio.fail_after(seconds):
                response = await self.client.chat.completions.with_raw_response.create(**request)
        except (TimeoutError, openai.APITimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise Unanswered("no connection in time", again=True, of_endpoint=True) from None
            raise Unanswered(f"no whole answer within {seconds:g} seconds", of_endpoint=True) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            what = "no connection" if isinstance(cause, httpx2.ConnectError) else "connection lost"
            raise Unanswered(
                f"{what}: {self._short(str(cause) or repr(cause))}", again=True, of_endpoint=True
            ) from None
        except openai.APIStatusError as error:
            raise self._refused(error.status_code, error.body, error.response.headers) from None
        except ValueError as error:  # malformed headers pass the client's own errors by
            raise Unanswered(f"not an HTTP answer: {self._short(error)}") from None
        return self._read(response.content)

    def _read(self, body: bytes) -> Reply:
        try:
            reply = Reply.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            reason = ": ".join(["not the JSON of a chat completion", *map(str, first["loc"]), first["msg"]])
            raise Unanswered(self._short(reason)) from None
        problem = reply.error or next((choice.error for choice in reply.choices or [] if choice.error), None)
        if problem:
            code = problem.get("code") if isinstance(problem, dict) else None
            raise self._refused(code if isinstance(code, int) else 0, problem, {})
        return reply

    def _refused(self, status: int, body: object, headers: Any) -> Unanswered:
        """What a status says; OpenRouter's 403 for a flagged document has the reasons in `metadata`."""
        found = body if isinstance(body, dict) else {}
        text = self._short(found.get("message") or found.get("detail") or body or "") or "no message"
        moved, flagged = 300 <= status < 400, status == 403 and "metadata" in found
        if moved:
            text = f"redirected to {self._short(headers.get('location', 'nowhere'))}: set base_url accordingly"
        return Unanswered(
            f"HTTP {status}: {text}" if status else f"error: {text}",
            again=status in _AGAIN or 500 <= status < 600,
            of_endpoint=moved or (status in _OF_ENDPOINT and not flagged),
            wait=_seconds(headers.get("retry-after", "")),
            body=body if status in _NOT_TAKEN else None,
        )

    def _short(self, message: object) -> str:
        return one_line(self.hide(str(message)))

    def _count(self, reason: str) -> None:
        self._in_a_row += 1
        if self._in_a_row == _GIVE_UP_AFTER:
            self._last_reason = reason
            self._given_up.set()
            log.warning(
                "%s: nothing more is asked, %d requests in a row failed: %s", self._name, self._in_a_row, reason
            )

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next request: what the server asks for or the back-off, whichever is longer."""
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.wait if isinstance(failure, Unanswered) else 0.0
        return min(max(asked, self._back_off(state)), self._patience.longest_wait)

    async def _rest(self, seconds: float) -> None:
        """A wait between two requests; over at once when the endpoint is given up."""
        with anyio.move_on_after(seconds):
            await self._given_up.wait()


class _Capped(httpx2.AsyncByteStream):
    """A body that ends the request when it grows too long: error pages, which the client reads by itself, too."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > _MOST_BYTES:
                raise Unanswered(f"an answer of more than {_MOST_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _cap(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)  # of an asynchronous client
    response.stream = _Capped(response.stream)


def one_line(text: str) -> str:
    """A message in one line, without control characters and an error page's tags, cut to 200 characters."""
    text = " ".join(_NOISE.sub(" ", text).split())
    return text if len(text) <= 200 else text[:197] + "..."


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds from now: a number, or a date; 0 where it is neither."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
