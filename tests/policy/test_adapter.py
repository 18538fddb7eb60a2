"""Adapter folders: written for plain PEFT, read for the base they were made for; and the adapter's settings."""

import json

import peft
import pytest
import torch
from tiny import make_byte_tokenizer, make_tiny_model
from tiny_policies import shake

from squish_pl.errors import ModelError
from squish_pl.policy.adapter import LoraSettings, adapter_problems, check_base, read_training_file, save_adapter
from squish_pl.policy.backbone import Backbone


def make_backbone(**kwargs):
    return Backbone(
        make_tiny_model("qwen3", torch.float64), make_byte_tokenizer(), LoraSettings(r=4, alpha=8), **kwargs
    )


def test_a_saved_adapter_loads_in_plain_peft(tmp_path):
    backbone = make_backbone()
    shake(backbone)
    save_adapter(backbone.model, tmp_path / "best", {"base_fingerprint": backbone.fingerprint}, "# card")
    assert sorted(file.name for file in (tmp_path / "best").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "squish.json",
    ]
    model = peft.PeftModel.from_pretrained(make_tiny_model("qwen3", torch.float64), str(tmp_path / "best"))
    ids = torch.tensor([[5, 6, 7, 8]])
    with backbone.policy.generating() as mine:
        assert torch.allclose(model(ids).logits, mine(ids).logits, rtol=1e-6, atol=1e-8)
    again = make_backbone(adapter=str(tmp_path / "best"))
    assert all(
        torch.allclose(a, b) for a, b in zip(again.adapter_parameters(), backbone.adapter_parameters(), strict=True)
    )
    assert all(p.requires_grad for p in again.adapter_parameters())


def test_an_adapter_for_another_base_is_refused(tmp_path):
    backbone = make_backbone()
    save_adapter(backbone.model, tmp_path / "mine", {"base_fingerprint": backbone.fingerprint}, "")
    other = make_tiny_model("qwen3", torch.float64, seed=9)  # the same shapes, other weights
    with pytest.raises(ModelError, match="another base model"):
        Backbone(other, make_byte_tokenizer(), adapter=str(tmp_path / "mine"))
    # an adapter from elsewhere has no fingerprint: names and shapes tell
    (tmp_path / "mine" / "squish.json").unlink()
    config = json.loads((tmp_path / "mine" / "adapter_config.json").read_text())
    config["target_modules"] = ["no_such_layer"]
    (tmp_path / "mine" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="does not fit this base model"):
        Backbone(make_tiny_model("qwen3", torch.float64), make_byte_tokenizer(), adapter=str(tmp_path / "mine"))
    with pytest.raises(ModelError, match="expected a PEFT adapter folder"):
        Backbone(make_tiny_model(), make_byte_tokenizer(), adapter=str(tmp_path))


def test_a_folder_to_start_from_is_an_adapter(tmp_path):
    assert adapter_problems(None) == []
    (problem,) = adapter_problems(str(tmp_path))
    assert "expected a PEFT adapter folder" in problem
    (tmp_path / "adapter_config.json").touch()
    assert adapter_problems(str(tmp_path)) == []


def test_what_was_written_beside_an_adapter(tmp_path):
    assert read_training_file(tmp_path) == {}
    for text, content in (('{"round": 3}', {"round": 3}), ("no JSON", {}), ("[1]", {})):
        (tmp_path / "squish.json").write_text(text)
        assert read_training_file(tmp_path) == content


def test_a_base_is_checked_where_its_fingerprint_is_known():
    check_base("abc", "abc", "the adapter")
    check_base(None, "abc", "the adapter")
    with pytest.raises(ModelError, match=r"the adapter was made for another base .*fingerprint abc, .* has def"):
        check_base("abc", "def", "the adapter")


def test_settings_become_pefts():
    config = LoraSettings(r=4, alpha=8, dropout=0.1, targets="q_proj, v_proj").to_peft()
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.1)
    assert config.target_modules == {"q_proj", "v_proj"}
    assert LoraSettings().to_peft().target_modules == "all-linear"
    assert LoraSettings().problems() == []
    assert len(LoraSettings(r=0, alpha=0, dropout=1.0).problems()) == 3
