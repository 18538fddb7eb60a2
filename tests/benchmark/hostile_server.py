"""A local chat endpoint that behaves as badly as its documents say.

A document holds "<<NAME>>", the name of one of the `_BEHAVIOURS`; without one it gets a normal answer. "once" in a
name means: the first request of that very document, and a normal answer after it. A GET has no document: it gets
what `models` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SUMMARY = "Eleven boats left the harbour."
_USAGE = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}


@dataclass
class HostileServer:
    """What the server was asked, and how.

    Attributes:
        port: On 127.0.0.1.
        models: The behaviour towards a GET, which asks for the list of models.
        refuses: Fields of a request that get an error, the body of which is given; the status is 400.
        requests: The parsed bodies, in order.
        headers: The header lines of each request, as text.
        seen: Requests of each behaviour.
        most_at_once: Most requests that were under way together.
        left_early: Requests whose client hung up before the answer was whole.
    """

    port: int = 0
    models: str = "normal"
    refuses: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    left_early: int = 0
    _at_once: int = 0
    _documents: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        """Base address for a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                text = f"<<{self.models}>>"
                self.headers.append(head)
                if not head.startswith("GET "):
                    body = json.loads(await reader.readexactly(int(size[1]) if size else 0))
                    self.requests.append(body)
                    text = body["messages"][-1]["content"]
                    if refused := [self.refuses[name] for name in self.refuses if name in body]:
                        await _send(writer, "400 Bad Request", refused[0])
                        continue
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                hung_up = asyncio.ensure_future(reader.read(1))  # a client that waits for its answer sends nothing
                answering = asyncio.ensure_future(self._answer(text, head, writer))
                await asyncio.wait({hung_up, answering}, return_when=asyncio.FIRST_COMPLETED)
                self._at_once -= 1
                self.left_early += not answering.done()
                keep = answering.done() and not answering.exception() and answering.result()
                for job in (hung_up, answering):
                    job.cancel()
                await asyncio.wait({hung_up, answering})
                if not keep:
                    break
        writer.close()

    async def _answer(self, text: str, head: str, writer: asyncio.StreamWriter) -> bool:
        """Sends the answer that the text asks for; whether the connection stays open."""
        named = re.search(r"<<(.+?)>>", text)
        name = named[1] if named else "normal"
        self.seen[name] += 1
        self._documents[text] += 1
        if name.endswith("once"):
            name = name.removesuffix(" once") if self._documents[text] == 1 else "normal"
        if name == "slow":
            await asyncio.sleep(0.15)
        elif name == "hang":
            await asyncio.sleep(60)
        elif name == "drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            while True:
                await asyncio.sleep(0.1)
                writer.write(b" ")
        elif name == "drip head":
            writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while True:
                await asyncio.sleep(0.1)
                writer.write(b"x")
        elif name == "cut":
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"choices": [')
            await writer.drain()
            return False
        elif name == "closed":
            return False
        elif name == "garbage":
            writer.write(b"\x00\xffnot http at all\r\n\r\n")
            return False
        elif name == "endless":
            writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 10000000000\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        if name in _REFUSALS:
            status, headers, body = _REFUSALS[name]
            return await _send(writer, status, body.replace("{head}", _bearer(head)), headers)
        cookie = "Set-Cookie: ÿ=1\r\n" if name == "odd cookie" else ""
        return await _send(writer, "200 OK", _BODIES.get(name, _BODIES["normal"]), cookie)


def completion(content: Any = None, finish: str = "stop", **fields: Any) -> str:
    """A chat completion; `fields` are the message's, but for `usage`."""
    usage = fields.pop("usage", _USAGE)
    message = {"role": "assistant", "content": content, **fields}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})


def _error(message: str, **fields: Any) -> str:
    return json.dumps({"error": {"message": message, **fields}})


async def _send(writer: asyncio.StreamWriter, status: str, body: str, headers: str = "") -> bool:
    data = body.encode()
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data)
    await writer.drain()
    return True


def _bearer(head: str) -> str:
    found = re.search(r"authorization: bearer (\S+)", head, re.IGNORECASE)
    return found[1] if found else ""


_NORMAL = f"Here it is:\n<summary>{SUMMARY}</summary>\nAnything else?"
_PAGE = "<html><head><style>p {color: red}</style><title>502</title></head><body><p>Bad gateway</p></body></html>"
_REFUSALS = {
    "429": ("429 Too Many Requests", "Retry-After: 0.3\r\n", _error("slow down")),
    "429 for an hour": ("429 Too Many Requests", "Retry-After: 3600\r\n", _error("slow down")),
    "500": ("500 Internal Server Error", "", _error("it broke")),
    "500 empty": ("500 Internal Server Error", "", ""),
    "page": ("502 Bad Gateway", "Content-Type: text/html\r\n", _PAGE),
    "steering": ("400 Bad Request", "", _error("\x1b[31mred\x07\x9b2J\tand\nmore")),
    "400": ("400 Bad Request", "", _error("context too long")),
    "401": ("401 Unauthorized", "", _error("Incorrect API key provided: {head}")),
    "404": ("404 Not Found", "", json.dumps({"detail": "no such model"})),
    "moderated": ("403 Forbidden", "", _error("flagged", code=403, metadata={"reasons": ["violence"]})),
    "redirect to nowhere": ("307 Temporary Redirect", "Location: //:99999/\r\n", ""),
    "redirect": ("307 Temporary Redirect", "Location: /v2/chat/completions\r\n", ""),
}
_BODIES = {
    "normal": completion(_NORMAL),
    "broken json": completion(_NORMAL)[:-20],
    "text": "<html>Log in first</html>",
    "list": "[1, 2]",
    "empty choices": json.dumps({"choices": [], "usage": _USAGE}),
    "null": json.dumps({"choices": None, "usage": None}),
    "no message": json.dumps({"choices": [{"index": 0}]}),
    "10 MB": completion("x" * 10_000_000),
    "error 502": _error("provider is down", code=502),
    "error text": json.dumps({"error": "model is loading"}),
    "error in choice": json.dumps({"choices": [{"message": {}, "error": {"message": "overloaded", "code": "busy"}}]}),
    "reasoning": completion(_NORMAL, reasoning_content="<summary>not this</summary>", reasoning="<summary>nor this"),
    "thoughts": completion(f"<think>I put it between <summary> and </summary>.</think>{_NORMAL}"),
    "lost in thought": completion("<think>Between <summary> and </summary>, so", finish="length"),
    "parts": completion([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": _NORMAL}]),
    "many parts": completion([{"type": "text", "text": _NORMAL[:25]}, {"type": "text", "text": _NORMAL[25:]}]),
    "bare part": completion({"type": "text", "text": _NORMAL}),
    "odd parts": completion([{"type": "image_url"}, {"text": _NORMAL}, 7, None], refusal=False),
    "odd content": completion(7),
    "refusal part": completion([{"type": "refusal", "refusal": "I cannot help with that."}]),
    "odd reasoning": completion(_NORMAL, reasoning=[{"summary": "x"}], reasoning_content=7, reasoning_details=[{}]),
    "all reasoning": completion(None, reasoning_content=f"<summary>{SUMMARY}</summary>\n"),
    "all reasoning, cut off": completion("", "length", reasoning=f"It may be <summary>{SUMMARY}</summary>"),
    "only a draft": completion("", reasoning=f"It may be <summary>{SUMMARY}</summary>, or not."),
    "no tags": completion("Eleven boats."),
    "cut off": completion("<summary>Eleven boats left", finish="length"),
    "empty": completion(""),
    "refusal": completion(None, refusal="I cannot help with that."),
    "filtered": completion("<summary>Eleven", finish="content_filter"),
    "cost": completion(_NORMAL, usage={**_USAGE, "cost": 0.5}),
    "odd usage": completion(_NORMAL, usage={"prompt_tokens": -5, "completion_tokens": "many", "cost": "free"}),
}


@contextlib.contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """Runs the server in a thread of its own."""
    server = HostileServer()
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.serve, "127.0.0.1", 0))
    server.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        listening.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
