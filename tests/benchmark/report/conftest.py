"""A headless browser that looks at pages, and tells whatever they should not have done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_tools import browser as browser

OpenFile = Callable[..., Any]


@pytest.fixture
def open_file(browser: Any) -> Iterator[OpenFile]:
    """Opens a file in a new page; in the end nothing must have been complained of, and nothing else loaded."""
    happened: list[str] = []
    contexts = []

    def opened(path: Path, address: str = "", **settings: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}, **settings))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        page.on("console", lambda message: happened.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: happened.append(f"error: {error}"))
        page.on(
            "request", lambda request: None if request.url.startswith(path.as_uri()) else happened.append(request.url)
        )
        page.on("dialog", lambda dialog: happened.append(f"dialog: {dialog.message}"))
        page.goto(path.as_uri() + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert happened == []
