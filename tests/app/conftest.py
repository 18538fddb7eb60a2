"""The page on a tiny model, served on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from browser_tools import browser as browser
from tiny import make_tiny_model

from squish_pl.app.page import app_page
from squish_pl.app.server import Loading, make_app
from squish_pl.app.workbench import Workbench, WorkbenchSettings
from squish_pl.lm.fingerprint import fingerprint
from squish_pl.lm.loading import BaseModel
from squish_pl.policy.adapter import save_adapter
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.score.measures.fair import Fair
from squish_pl.score.settings import ScoreSettings

PROMPT = PromptTemplate("{document}\n\nIn {limit}:\n", close_tag="H", chat="never")


@pytest.fixture(scope="session")
def settings(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WorkbenchSettings:
    model = peft.get_peft_model(make_tiny_model(), peft.LoraConfig(target_modules="all-linear", r=4))
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = tmp_path_factory.mktemp("app") / "adapter"
    save_adapter(model, folder, {"base_fingerprint": fingerprint(make_tiny_model())}, "card")
    base = BaseModel(str(tiny_model_folder))
    return WorkbenchSettings(base, str(folder), PROMPT, ScoreSettings(measures=[Fair()]), max_tokens=1000)


@pytest.fixture(scope="session")
def bench(settings: WorkbenchSettings) -> Workbench:
    return Workbench(settings)


@contextmanager
def served(load: Callable[[], Any], has_adapter: bool = True) -> Iterator[str]:
    """The page's address while it is served."""
    import uvicorn

    from squish_pl.cli.app import _hosts, _listen

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
