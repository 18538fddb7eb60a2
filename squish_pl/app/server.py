"""The server of the page: a few addresses, nothing kept, nothing logged of what is asked."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from squish_pl.app.workbench import Workbench
from squish_pl.errors import SquishError

log = logging.getLogger(__name__)

MOST_BYTES = 2_000_000  #: of a request
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Loading:
    """A workbench that is being loaded by a thread of its own, and used by one request at a time.

    Args:
        load: Loads it.
        title: What is loaded, for people.
    """

    def __init__(self, load: Callable[[], Workbench], title: str) -> None:
        self.title, self._load = title, load
        self._bench: Workbench | None = None
        self._problem = ""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begins to load."""
        threading.Thread(target=self._run, daemon=True).start()

    def status(self) -> dict[str, str]:
        """How far it is: `state` (loading, ready, failed), and `told`, a sentence."""
        if self._problem:
            return {"state": "failed", "told": self._problem}
        if self._bench is None:
            return {"state": "loading", "told": f"Loading {self.title} …"}
        return {"state": "ready", "told": f"{self.title} is loaded."}

    def use(self, work: Callable[[Workbench], dict[str, Any]]) -> dict[str, Any]:
        """Work on the workbench, one at a time.

        Raises:
            SquishError: It is not loaded, or the work cannot be done.
        """
        if self._bench is None:
            raise SquishError(self.status()["told"])
        with self._lock:
            return work(self._bench)

    def _run(self) -> None:
        try:
            self._bench = self._load()
            log.info("%s is loaded", self.title)
        except SquishError as error:
            self._problem = str(error)
        except Exception as error:  # the page must not say for ever that it is loading
            log.exception("loading failed")
            self._problem = f"{self.title} cannot be loaded: {error}"
        if self._problem:
            log.error("%s", self._problem)


class _Wrong(Exception):
    """A request that nobody's page makes: status and sentence."""


def make_app(loading: Loading, page: str, hosts: Sequence[str]) -> Starlette:
    """The application.

    Args:
        loading: The model.
        page: The page's HTML.
        hosts: Names under which it may be asked: a foreign name that leads here is another site's trick.
    """

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    async def status(request: Request) -> Response:
        return JSONResponse(loading.status(), headers=_HEADERS)

    async def score(request: Request) -> Response:
        document, summary, budget, name = await _texts(request, "document", "summary", "budget", "name")
        return await _answer(loading, lambda bench: bench.score(document, summary, budget, name))

    async def write(request: Request) -> Response:
        document, budget, who = await _texts(request, "document", "budget", "who")
        return await _answer(loading, lambda bench: dict(bench.write(document, budget, who == "after")))

    routes = [
        Route("/", show),
        Route("/status", status),
        Route("/score", _guarded(score), methods=["POST"]),
        Route("/write", _guarded(write), methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


async def _answer(loading: Loading, work: Callable[[Workbench], dict[str, Any]]) -> Response:
    return JSONResponse(await to_thread.run_sync(loading.use, work), headers=_HEADERS)


def _guarded(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Turns whatever goes wrong into a sentence."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except SquishError as error:
            return _refused(400, str(error))
        except _Wrong as error:
            return _refused(*error.args)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            log.exception("a request failed")
            return _refused(500, "Something went wrong in the server; its log has the details.")

    return guarded


def _refused(status: int, sentence: str) -> Response:
    sentence = sentence[:1].upper() + sentence[1:]  # the command line's messages stand behind "error: "
    return JSONResponse({"problem": sentence}, status_code=status, headers=_HEADERS)


async def _texts(request: Request, *names: str) -> list[str]:
    """Fields of a JSON body, all of them texts."""
    # what a page of another site may send without asking has another type
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise _Wrong(415, "Expected a request in JSON (content-type application/json).")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise _Wrong(413, f"The text is too long: a request may have {MOST_BYTES:,} bytes.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in names):
        raise _Wrong(400, f"Expected a JSON object with the texts {', '.join(names)}.")
    return [found[name] for name in names]
