"""Whatever a PEFT folder brings, the reference stays the base: an adapter that changes it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_byte_tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from squish_pl.errors import CheckpointError, ModelError
from squish_pl.lm.log_probs import token_log_probs
from squish_pl.policy.adapter import LoraSettings, save_adapter
from squish_pl.policy.backbone import Backbone
from squish_pl.score.reference import FrozenModel, ReferenceModel

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of many things that these adapters are about

IDS = (torch.arange(60).view(2, 30) * 7 + 1) % 258
LINEAR = ["q_proj", "v_proj", "down_proj"]


def make_model(architecture: str = "qwen2", tied: bool = True, seed: int = 0) -> PreTrainedModel:
    """Two layers whose attention has biases, unlike zero."""
    shape = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": tied,
    }
    torch.manual_seed(seed)
    if architecture == "llama":
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**shape, attention_bias=True))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def lora(**settings: Any) -> peft.PeftConfig:
    return peft.LoraConfig(**({"r": 4, "target_modules": LINEAR, "task_type": "CAUSAL_LM"} | settings))


#: adapters of layers: they load, and with them off the base is itself
KEPT: dict[str, Callable[[], peft.PeftConfig]] = {
    "lora": lora,
    "all-linear": lambda: lora(target_modules="all-linear"),
    "rslora": lambda: lora(use_rslora=True),
    "dora": lambda: lora(use_dora=True),
    "dora on embeddings": lambda: lora(use_dora=True, target_modules=["embed_tokens", "v_proj"]),
    "lora_bias": lambda: lora(lora_bias=True),
    "dropout": lambda: lora(lora_dropout=0.5),
    "embeddings": lambda: lora(target_modules=["embed_tokens", "q_proj"]),
    "head": lambda: lora(target_modules=["lm_head", "q_proj"]),
    "embeddings and head": lambda: lora(target_modules=["embed_tokens", "lm_head", "q_proj"]),
    "saved norms": lambda: lora(modules_to_save=["norm", "input_layernorm"]),
    "saved head": lambda: lora(modules_to_save=["lm_head"]),
    "saved embeddings": lambda: lora(modules_to_save=["embed_tokens"]),
    "saved embeddings and head": lambda: lora(modules_to_save=["embed_tokens", "lm_head"]),
    "saved layer": lambda: lora(modules_to_save=["k_proj"]),
    "tokens": lambda: lora(trainable_token_indices=[3, 8, 15, 257]),
    "tokens alone": lambda: peft.TrainableTokensConfig(token_indices=[3, 8, 15, 257], task_type="CAUSAL_LM"),
    "ia3": lambda: peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    ),
    "norms": lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "norm"], task_type="CAUSAL_LM"),
    "loha": lambda: peft.LoHaConfig(r=2, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "lokr": lambda: peft.LoKrConfig(r=2, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    "oft": lambda: peft.OFTConfig(r=0, oft_block_size=4, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "hra": lambda: peft.HRAConfig(r=4, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "fourier": lambda: peft.FourierFTConfig(n_frequency=20, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "shira": lambda: peft.ShiraConfig(r=2, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "c3a": lambda: peft.C3AConfig(block_size=16, target_modules=["o_proj"], task_type="CAUSAL_LM"),
    "road": lambda: peft.RoadConfig(group_size=16, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "adaption prompt": lambda: peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM"),
}
NOT_IN_PEFT = {("adaption prompt", "qwen2")}

#: adapters that cannot be switched off, or work outside the layers
REFUSED: dict[str, Callable[[], peft.PeftConfig]] = {
    "bias all": lambda: lora(bias="all"),
    "bias lora_only": lambda: lora(bias="lora_only"),
    "pissa": lambda: lora(init_lora_weights="pissa"),
    "olora": lambda: lora(init_lora_weights="olora"),
    "more layers": lambda: lora(layer_replication=[[0, 2], [0, 2]]),
    "alora": lambda: lora(alora_invocation_tokens=[1, 2]),
    "oft bias": lambda: peft.OFTConfig(r=0, oft_block_size=4, target_modules=LINEAR, bias="all", task_type="CAUSAL_LM"),
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "p-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
}


def make_folder(config: peft.PeftConfig, folder: Path, model: PreTrainedModel | None = None, **saving: Any) -> Path:
    """An adapter with large random values, saved by plain peft."""
    wrapped = peft.get_peft_model(model or make_model(), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    wrapped.save_pretrained(str(folder), **saving)
    return folder


def numbers(reference: ReferenceModel) -> list[Tensor]:
    """Hidden states, log-probs and entropies, all that a score is made of."""
    hidden = reference.hidden(IDS)
    return [hidden, *token_log_probs(hidden[:, :-1].flatten(0, 1), reference.head, IDS[:, 1:].flatten(), 1.0)]


def policy_logits(backbone: Backbone) -> Tensor:
    with torch.no_grad():
        return backbone.policy.head(backbone.policy.hidden(IDS))


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def step(backbone: Backbone) -> None:
    """An optimiser step that reaches every parameter that learns."""
    optimizer = torch.optim.SGD(backbone.adapter_parameters(), lr=1.0)
    backbone.policy.head(backbone.policy.hidden(IDS)).logsumexp(-1).sum().backward()
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.grad = torch.randn_like(parameter)
    optimizer.step()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("kind", "architecture"), [pair for pair in product(KEPT, ["qwen2", "llama"]) if pair not in NOT_IN_PEFT]
)
def test_the_reference_stays_the_base(kind: str, architecture: str, tied: bool, tmp_path: Path) -> None:
    plain = numbers(FrozenModel(make_model(architecture, tied)))
    folder = make_folder(KEPT[kind](), tmp_path / "adapter", make_model(architecture, tied))
    backbone = Backbone(make_model(architecture, tied), make_byte_tokenizer(), adapter=str(folder))
    assert same(numbers(backbone.reference), plain)

    policy = policy_logits(backbone)
    elsewhere = peft.PeftModel.from_pretrained(make_model(architecture, tied), str(folder))
    with torch.no_grad():
        assert torch.allclose(policy, elsewhere(IDS).logits, rtol=1e-4, atol=1e-3)  # the adapter is really on
    assert (policy - backbone.reference.head(backbone.reference.hidden(IDS))).abs().max() > 0.01

    step(backbone)
    assert not torch.equal(policy_logits(backbone), policy)
    assert same(numbers(backbone.reference), plain)

    # saved by us and kept in a checkpoint, it is the same adapter again
    save_adapter(backbone.model, tmp_path / "ours", {"base_fingerprint": backbone.fingerprint}, "")
    again = Backbone(make_model(architecture, tied), make_byte_tokenizer(), adapter=str(tmp_path / "ours"))
    assert torch.equal(policy_logits(again), policy_logits(backbone))
    third = Backbone(make_model(architecture, tied), make_byte_tokenizer(), adapter=str(folder))
    third.load_adapter_state(backbone.adapter_state())
    assert torch.equal(policy_logits(third), policy_logits(backbone))
    assert same(numbers(third.reference), plain)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", [kind for kind in KEPT if (kind, "qwen2") not in NOT_IN_PEFT])
def test_the_reference_stays_the_base_in_half_precision(kind: str, tied: bool, tmp_path: Path) -> None:
    def base() -> PreTrainedModel:
        return make_model(tied=tied).bfloat16()

    plain = numbers(FrozenModel(base()))
    folder = make_folder(KEPT[kind](), tmp_path / "adapter", base())
    backbone = Backbone(base(), make_byte_tokenizer(), adapter=str(folder))
    step(backbone)
    assert policy_logits(backbone).dtype == torch.bfloat16
    assert same(numbers(backbone.reference), plain)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_cannot_be_switched_off_is_refused(
    kind: str, architecture: str, tied: bool, tmp_path: Path
) -> None:
    folder = make_folder(REFUSED[kind](), tmp_path / "adapter", make_model(architecture, tied))
    with pytest.raises(ModelError, match=r"changes the base model itself|adds tokens|outside the model's layers") as e:
        Backbone(make_model(architecture, tied), make_byte_tokenizer(), adapter=str(folder))
    assert str(folder) in str(e.value)


def saved(tmp_path: Path, config: peft.PeftConfig | None = None, **saving: Any) -> tuple[Path, dict[str, Tensor]]:
    folder = make_folder(config or lora(), tmp_path / "adapter", **saving)
    return folder, load_file(folder / "adapter_model.safetensors")


def load(folder: Path, **kwargs: Any) -> Backbone:
    return Backbone(make_model(**kwargs), make_byte_tokenizer(), adapter=str(folder))


def write(folder: Path, weights: dict[str, Tensor]) -> None:
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("config", [lora, KEPT["saved norms"], KEPT["tokens"], KEPT["ia3"], KEPT["dora"]])
def test_half_of_the_weights_is_refused(config: Callable[[], peft.PeftConfig], tmp_path: Path) -> None:
    folder, weights = saved(tmp_path, config())
    names = sorted(weights)
    left_out = names[::2]
    write(folder, {name: weights[name] for name in names if name not in left_out})
    with pytest.raises(ModelError) as error:
        load(folder)
    told = str(error.value)
    assert f"of {len(names)} expected, {len(left_out)} missing ({left_out[0]}, " in told
    assert "unexpected" not in told
    write(folder, {name: weights[name] for name in names if name != names[-1]})  # one alone
    with pytest.raises(ModelError, match="1 missing") as error:
        load(folder)
    assert f"({names[-1]})" in str(error.value)


@pytest.mark.parametrize(
    ("before", "after"), [("base_model.model.", "base_model.model.model.language_"), ("base_model.", "module.")]
)
def test_names_of_another_model_are_refused(before: str, after: str, tmp_path: Path) -> None:
    folder, weights = saved(tmp_path)
    write(folder, {name.replace(before, after, 1): tensor for name, tensor in weights.items()})
    with pytest.raises(ModelError, match=r"of 12 expected, 12 missing \(.*, \.\.\.\) and 12 unexpected \(.*, \.\.\.\)"):
        load(folder)


def test_one_weight_too_many_is_refused(tmp_path: Path) -> None:
    folder, weights = saved(tmp_path)
    name = "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight"
    write(folder, weights | {name: torch.zeros(4, 32)})
    with pytest.raises(ModelError, match="1 unexpected") as error:
        load(folder)
    assert name in str(error.value)


def test_weights_of_another_shape_or_none_at_all_are_refused(tmp_path: Path) -> None:
    folder, weights = saved(tmp_path)
    name = sorted(weights)[0]
    write(folder, weights | {name: torch.zeros(3, 64)})
    with pytest.raises(ModelError, match="does not fit this base model"):
        load(folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no weights.*adapter_model\.safetensors"):
        load(folder)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KEPT)
def test_copies_of_the_base_beside_the_adapter_are_left_out(kind: str, tied: bool, tmp_path: Path) -> None:
    """peft puts the embeddings into the file where it is asked to, or believes that they have changed."""
    architecture = "llama" if (kind, "qwen2") in NOT_IN_PEFT else "qwen2"
    plain = numbers(FrozenModel(make_model(architecture, tied)))
    folder = make_folder(KEPT[kind](), tmp_path / "adapter", make_model(architecture, tied), save_embedding_layers=True)
    weights = load_file(folder / "adapter_model.safetensors")
    base = make_model(architecture, tied).get_input_embeddings().weight
    head = make_model(architecture, tied).get_output_embeddings().weight
    copies = [k for k, t in weights.items() if t.shape == base.shape and (torch.equal(t, base) or torch.equal(t, head))]
    assert copies
    backbone = load(folder, architecture=architecture, tied=tied)
    assert same(numbers(backbone.reference), plain)
    assert not set(copies) & backbone.adapter_state().keys()
    # rounded copies are copies too
    write(folder, {name: t.bfloat16() if name in copies else t for name, t in weights.items()})
    assert same(numbers(load(folder, architecture=architecture, tied=tied).reference), plain)
    # changed or resized ones are another base
    changed = weights[copies[0]].clone()
    changed[200, 3] += 0.01
    for other in (changed, torch.cat([changed, torch.zeros(2, 32)])):
        write(folder, weights | {copies[0]: other})
        with pytest.raises(ModelError, match="changes the base model itself, 1 of its weights") as error:
            load(folder, architecture=architecture, tied=tied)
        assert f"({copies[0]})" in str(error.value)


def test_two_copies_of_an_adapters_weights_that_differ_are_refused(tmp_path: Path) -> None:
    folder, weights = saved(tmp_path, KEPT["saved head"](), save_embedding_layers=True)
    name = "base_model.model.lm_head.modules_to_save.weight"
    assert torch.equal(weights[name], weights["base_model.model.lm_head.weight"])
    load(folder)
    write(folder, weights | {name: weights[name] + 1})
    with pytest.raises(ModelError, match=r"1 unexpected \(base_model\.model\.lm_head\.modules_to_save\.weight\)"):
        load(folder)


def test_a_weight_of_the_base_in_the_file_is_refused(tmp_path: Path) -> None:
    folder, weights = saved(tmp_path)
    write(folder, weights | {"base_model.model.model.norm.weight": torch.ones(32)})
    with pytest.raises(ModelError, match=r"1 of its weights \(base_model\.model\.model\.norm\.weight\)"):
        load(folder)


def test_a_checkpoint_of_another_adapter_is_refused_by_name_and_number() -> None:
    one = Backbone(make_model(), make_byte_tokenizer(), LoraSettings(r=2, targets="q_proj"))
    other = Backbone(make_model(), make_byte_tokenizer(), LoraSettings(r=4, targets="q_proj"))
    before = {name: tensor.clone() for name, tensor in other.adapter_state().items()}
    state = one.adapter_state()
    with pytest.raises(
        CheckpointError, match=r"4 of the weights differ in name or shape \(base_model.*q_proj.*, \.\.\.\)"
    ):
        other.load_adapter_state(state)
    half = dict(list(before.items())[:2])
    with pytest.raises(CheckpointError, match="2 of the weights differ"):
        other.load_adapter_state(half)
    with pytest.raises(CheckpointError, match=r"1 of the weights differ.*more"):
        other.load_adapter_state(before | {"more": torch.zeros(1)})
    assert all(torch.equal(before[name], tensor) for name, tensor in other.adapter_state().items())


def test_an_adapter_of_an_older_peft_still_loads(tmp_path: Path) -> None:
    folder, weights = saved(tmp_path, KEPT["dora"]())
    write(folder, {name.replace("magnitude_vector.weight", "magnitude_vector"): t for name, t in weights.items()})
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps({key: config[key] for key in ("peft_type", "r", "lora_alpha", "target_modules", "use_dora")})
    )
    elsewhere = peft.PeftModel.from_pretrained(make_model(), str(folder))
    with torch.no_grad():
        assert torch.allclose(policy_logits(load(folder)), elsewhere(IDS).logits, rtol=1e-4, atol=1e-3)
