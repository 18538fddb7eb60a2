"""A tiny model with an adapter, behind the page."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from browser_tools import browser as browser
from tiny import make_tiny_model

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
