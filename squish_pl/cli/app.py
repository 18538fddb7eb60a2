"""`app`: a page to try a summary on, on this computer alone."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

from jsonargparse import auto_cli
from rich.console import Console
from rich.text import Text

from squish_pl.benchmark.references import pick_device
from squish_pl.budget import Budget
from squish_pl.cli.compare import null_problems
from squish_pl.errors import ConfigError, SquishError
from squish_pl.lm.loading import BaseModel, DType
from squish_pl.policy.adapter import adapter_problems, read_training_file
from squish_pl.policy.origin import trained_base, trained_prompt
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.score.measures.base import Measure
from squish_pl.score.measures.fair import Fair
from squish_pl.score.settings import ScoreSettings

_NEEDED = ("starlette", "uvicorn", "jinja2", "nltk")  # the extra "app"


def run(arguments: list[str]) -> None:
    """Runs the command with its arguments."""
    auto_cli(app, args=arguments, as_positional=False, exit_on_error=False)


def app(
    adapter: Optional[str] = None,
    base: Optional[str] = None,
    gguf_file: Optional[str] = None,
    revision: Optional[str] = None,
    dtype: DType = "auto",
    device: str = "auto",
    prompt: Optional[PromptTemplate] = None,
    measures: Optional[list[Measure]] = None,
    max_tokens: int = 4096,
    budget: str = "10%",
    host: str = "127.0.0.1",
    port: int = 8321,
) -> None:
    """Opens a page on which a document is pasted, summarised by you or a model, and every summary scored.

    It runs on this computer, needs no network once the model is here, and keeps nothing of what is typed.

    Args:
        adapter: Folder of a trained adapter: the model then writes with and without it.
        base: The model that scores and writes: hub id, folder, or "package:NAME"; by default the adapter's, or
            Qwen/Qwen3-1.7B-Base.
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        device: "auto" takes a GPU where there is one.
        prompt: How the model is asked; by default as the adapter's training asked it.
        measures: What is shown beside SQUISH and SQUISH-novel; by default the fair score.
        max_tokens: Longest document in the model's tokens.
        budget: What stands in the budget's field at first.
        host: Address to listen at. Others can reach the page at anything but 127.0.0.1, and there is no password.
        port: Its port; 0 takes a free one.

    Raises:
        ConfigError: Settings that make no sense; all problems are named together.
        SquishError: The extra is not installed, or the port is taken.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise SquishError(f'the page needs {", ".join(missing)}: run pip install "squish-pl[app]"')
    from squish_pl.app.page import app_page
    from squish_pl.app.server import Loading, make_app
    from squish_pl.app.workbench import Workbench, WorkbenchSettings

    score = ScoreSettings(measures=[Fair()] if measures is None else measures)
    problems = null_problems(locals(), app) + adapter_problems(adapter) + Budget.problems([budget]) + score.problems()
    if max_tokens < 1:
        problems.append(f"max_tokens must be at least 1, but is {max_tokens}")
    if not 0 <= port < 1 << 16:
        problems.append(f"port must be a number from 0 to 65535, but is {port}")
    if problems:
        raise ConfigError(problems)
    training = {} if adapter is None else read_training_file(Path(adapter).expanduser())
    named = base or (None if adapter else BaseModel.base)
    model = trained_base(training, named, gguf_file, revision, dtype)
    asked = prompt or trained_prompt(training)
    if problems := model.problems() + asked.problems():
        raise ConfigError(problems)
    settings = WorkbenchSettings(model, adapter, asked, score, max_tokens, pick_device(device))
    facts = {
        "Model that scores and writes": model.title,
        "Adapter": adapter or "none: the model was not trained",
        "Privacy": "What you type goes to the computer that runs this page, which keeps none of it.",
    }
    title = model.title if adapter is None else f"{model.title} with {adapter}"
    page = app_page(
        facts, ["squish", "novel", *(measure.name for measure in score.measures)], adapter is not None, budget
    )
    loading = Loading(lambda: Workbench(settings), title)
    listening = _listen(host, port)
    address = f"http://{_shown(host)}:{listening.getsockname()[1]}"
    console = Console(highlight=False)
    console.print(Text(f"loading {title}; the page is at {address} (Ctrl-C ends it)"), soft_wrap=True)
    loading.start()
    with listening:
        _serve(make_app(loading, page, _hosts(host)), listening)


def _serve(application: object, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off")  # type: ignore[arg-type]
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


def _listen(host: str, port: int) -> socket.socket:
    """A socket of our own, so that a port that is taken is one message.

    Raises:
        SquishError: It cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise SquishError(f"cannot listen at {host}, port {port}: {error.strerror}; choose another --port") from None


def _hosts(host: str) -> list[str]:
    """Names under which the page may be asked for; any where it is open to others."""
    return ["127.0.0.1", "localhost", "[::1]", host] if _is_local(host) else ["*"]


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
