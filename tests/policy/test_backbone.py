import json

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model

from squish_pl.errors import CheckpointError, ModelError
from squish_pl.files import recover_folder, replace_folder
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.adapter import save_adapter
from squish_pl.policy.backbone import fingerprint
from squish_pl.policy.memory.tracker import peak_bytes
from squish_pl.policy.padded import completion_log_probs
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer
from squish_pl.types import Experience

DOCUMENT = "The lighthouse at Marrow Point will be sold in May, its keeper said on Tuesday."
SUMMARIES = ["Lighthouse sold in May.", "A keeper spoke."]


def make_backbone(architecture="qwen3", **kwargs):
    model = make_tiny_model(architecture, torch.float64)
    return Backbone(model, make_byte_tokenizer(), LoraSettings(r=4, alpha=8), **kwargs)


def shake(backbone, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def rows():
    return [
        Experience(torch.arange(5, 20), torch.tensor([7, 8, 9]), torch.zeros(3), 0.0, 0.0),
        Experience(torch.arange(3, 12), torch.tensor([42]), torch.zeros(1), 0.0, 0.0),
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_reward_stays_when_the_adapter_moves_and_the_policy_does_not(architecture):
    backbone = make_backbone(architecture)
    scorer = SquishScorer(backbone.reference, backbone.tokenizer)
    plain = SquishScorer(FrozenModel(make_tiny_model(architecture, torch.float64)), backbone.tokenizer)
    before, _ = completion_log_probs(backbone.policy, rows())
    scores_before = scorer.score(DOCUMENT, SUMMARIES)
    shake(backbone)
    fresh = SquishScorer(backbone.reference, backbone.tokenizer)  # nothing remembered from before
    scores_after = fresh.score(DOCUMENT, SUMMARIES)
    after, _ = completion_log_probs(backbone.policy, rows())
    assert torch.equal(scores_before.score, scores_after.score)
    assert torch.equal(scores_before.token_saved, scores_after.token_saved)
    assert torch.allclose(scores_after.saved, plain.score(DOCUMENT, SUMMARIES).saved, rtol=1e-12)
    assert (before - after).abs().min() > 1e-3


def test_the_reference_records_no_gradient_and_leaves_the_adapter_on():
    backbone = make_backbone()
    hidden = backbone.reference.hidden(torch.tensor([[1, 2, 3]]))
    assert not hidden.requires_grad
    assert hidden.is_inference()
    log_probs, _ = completion_log_probs(backbone.policy, rows())
    log_probs.sum().backward()
    assert all(p.grad is not None for p in backbone.adapter_parameters())


def test_the_reference_refuses_to_run_with_an_adapter_layer_on(monkeypatch):
    backbone = make_backbone()
    monkeypatch.setattr(peft.PeftModel, "disable_adapter", lambda self: torch.no_grad())  # does not disable anything
    with pytest.raises(RuntimeError, match="still on"):
        backbone.reference.hidden(torch.tensor([[1, 2, 3]]))


def test_only_the_adapter_learns():
    backbone = make_backbone()
    names = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert not any("lora_" in name for name, p in backbone.named_parameters() if not p.requires_grad)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padded_log_probs_and_gradients_equal_one_sequence_at_a_time(architecture, checkpointing):
    backbone = make_backbone(architecture)
    backbone.checkpoint_layers(2 if checkpointing else 0)
    shake(backbone)
    weights = torch.tensor([0.5, -1.0, 2.0, 3.0], dtype=torch.float64)
    log_probs, entropies = completion_log_probs(backbone.policy, rows())
    (log_probs * weights).sum().backward()
    gradients = [p.grad.clone() for p in backbone.adapter_parameters()]
    backbone.zero_grad()

    expected, expected_entropy = [], []
    for row in rows():  # the whole model, full logits, no padding
        ids = torch.cat([row.prompt_ids, row.completion_ids])
        logits = backbone.model(input_ids=ids.unsqueeze(0)).logits[0]
        for i, token in enumerate(row.completion_ids):
            log_p = torch.log_softmax(logits[len(row.prompt_ids) - 1 + i], -1)
            expected.append(log_p[token])
            expected_entropy.append(-(log_p.exp() * log_p).sum())
    expected = torch.stack(expected)
    (expected * weights).sum().backward()
    assert torch.allclose(log_probs, expected, rtol=1e-10)
    assert torch.allclose(entropies, torch.stack(expected_entropy), rtol=1e-10)
    for mine, parameter in zip(gradients, backbone.adapter_parameters(), strict=True):
        assert torch.allclose(mine, parameter.grad, rtol=1e-8, atol=1e-12)


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


def test_the_fingerprint_tells_weights_apart_but_not_dtypes():
    one = fingerprint(make_tiny_model(seed=0))
    assert one == fingerprint(make_tiny_model(seed=0, dtype=torch.float64))
    assert one == fingerprint(make_tiny_model(seed=0).bfloat16())
    assert one != fingerprint(make_tiny_model(seed=1))
    assert one != fingerprint(make_tiny_model("llama", seed=0))


def test_a_failed_write_leaves_the_earlier_folder(tmp_path):
    folder = tmp_path / "best"
    replace_folder(folder, lambda target: (target / "weights").write_text("old"))

    def half(target):
        (target / "weights").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left on device"):
        replace_folder(folder, half)
    assert (folder / "weights").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best"]
    replace_folder(folder, lambda target: (target / "weights").write_text("new"))
    assert (folder / "weights").read_text() == "new"
    folder.rename(tmp_path / ".best.retired")  # killed between the two moves
    recover_folder(folder)
    assert (folder / "weights").read_text() == "new"


def test_an_adapter_state_that_does_not_fit_is_refused():
    small = Backbone(make_tiny_model(), make_byte_tokenizer(), LoraSettings(r=2))
    large = Backbone(make_tiny_model(), make_byte_tokenizer(), LoraSettings(r=4))
    with pytest.raises(CheckpointError, match="does not fit"):
        large.load_adapter_state(small.adapter_state())


def test_half_precision_computes_in_half_and_learns_in_float32():
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone = Backbone(make_tiny_model("qwen3").to(dtype), make_byte_tokenizer(), LoraSettings(r=4, alpha=8))
        shake(backbone)
        log_probs, _ = completion_log_probs(backbone.policy, rows())
        log_probs.sum().backward()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in backbone.adapter_parameters())
        gradient = torch.cat([p.grad.flatten() for p in backbone.adapter_parameters()])
        results.append((log_probs.detach(), gradient))
        with backbone.policy.generating() as generating:
            assert generating(torch.arange(5).unsqueeze(0)).logits.dtype == dtype
    (log_probs, gradient), (log_probs_2, gradient_2) = results
    assert (log_probs - log_probs_2).abs().mean() < 0.1
    assert (gradient - gradient_2).norm() < 0.1 * gradient.norm()

    def held():
        return peak_bytes(lambda: backbone.policy.hidden(torch.arange(600).view(2, 300) % 256))

    ours = held()
    for layer in backbone.model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = True  # peft's own way: a float32 copy of every layer's input
    assert ours < 0.85 * held()
