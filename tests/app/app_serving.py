"""The page, served on this machine while a test looks at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from squish_pl.app.page import app_page
from squish_pl.app.server import Loading, make_app
from squish_pl.cli.app import _hosts, _listen


@contextmanager
def served(load: Callable[[], Any], has_adapter: bool = True) -> Iterator[str]:
    """The page's address while it is served."""
    loading = Loading(load, "a tiny model")
    page = app_page({"Model": "tiny <b>model</b>"}, ["squish", "novel", "fair"], has_adapter, "20%")
    with _listen("127.0.0.1", 0) as listening:
        application = make_app(loading, page, _hosts("127.0.0.1"))
        config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        loading.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)
