"""Putting a saved adapter onto its base model: all of its weights, and nothing that changes the base itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, AuxiliaryTrainingWrapper
from torch import Tensor
from transformers import PreTrainedModel

from squish_pl.errors import ModelError, first_line
from squish_pl.policy.adapter import check_base, is_adapter_folder, read_training_file

log = logging.getLogger(__name__)


def load_adapter(model: PreTrainedModel, folder: str, base_fingerprint: str, base: str | None = None) -> PeftModel:
    """Puts a saved adapter onto its base model, ready to learn on.

    Args:
        model: The base model, its weights frozen; not to be used any more where this raises.
        folder: A PEFT adapter folder.
        base_fingerprint: Of `model`.
        base: The base's name as users know it.

    Raises:
        ModelError: The folder is no adapter; the adapter was made for another base; its weights are not those it should
            have; or the base would not be itself with the adapter switched off.
    """
    path = Path(folder).expanduser()
    if not is_adapter_folder(path):
        raise ModelError(f"expected a PEFT adapter folder (with adapter_config.json), but {folder!r} is none")
    what = f"the adapter {folder!r}"
    training = read_training_file(path)
    check_base(training.get("base_fingerprint"), base_fingerprint, what)
    made_for = None
    try:
        config = PeftConfig.from_pretrained(str(path))
        made_for = config.base_model_name_or_path
        if not training and made_for != base:
            log.warning(
                "%s names %r as its base, and this is %r: nothing but the shapes can be checked", what, made_for, base
            )
        return _wrap(model, config, path, what)
    except ModelError:
        raise
    except Exception as error:  # damaged files fail in many ways
        reason = first_line(error)
        raise ModelError(
            f"{what} does not fit this base model ({reason}); name the base it was trained on, "
            f"which it calls {made_for or 'by no name'!r}"
        ) from None


def _wrap(model: PreTrainedModel, config: PeftConfig, path: Path, what: str) -> PeftModel:
    if config.is_prompt_learning or getattr(config, "alora_invocation_tokens", None):
        raise ModelError(
            f"{what} ({config.peft_type}) adds tokens or waits for some: only adapters of layers can be used"
        )
    if not any((path / name).is_file() for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)):
        raise ModelError(f"{what} has no weights: expected {SAFETENSORS_WEIGHTS_NAME} in its folder")
    mapping = getattr(model, "_checkpoint_conversion_mapping", None)
    weights = load_peft_weights(str(path), device="cpu", key_mapping=mapping)
    own = {id(tensor): _state(tensor) for tensor in (*model.parameters(), *model.buffers())}
    before = _answer(model)
    config.inference_mode = False
    wrapped = cast(PeftModel, get_peft_model(model, config))
    wrapped.eval()
    weights = _without_base_weights(wrapped, weights, own, what)
    _check_base_kept(wrapped, own, what)  # before anything is written into it
    load_weights(wrapped, weights, what)
    _check_base_kept(wrapped, own, what)
    with adapter_off(wrapped):
        try:
            kept = _close(before, _answer(model))
        except Exception:
            kept = False
    if not kept:
        raise _not_the_base(what, "its layers or weights")
    if not _close(_answer(wrapped), _answer(model)):
        raise ModelError(
            f"{what} ({config.peft_type}) works outside the model's layers: only adapters of layers can be used"
        )
    return wrapped


def load_weights(model: PeftModel, weights: Mapping[str, Tensor], what: str) -> None:
    """Puts weights into an adapter, every one into its place.

    Args:
        model: The model with its adapter.
        weights: By PEFT's names.
        what: Whose weights they are, for the error.

    Raises:
        ModelError: Some are missing, or there is no place for some; the message names and counts them.
    """
    names = dict(model.named_parameters(remove_duplicate=False))  # tied ones have several, and one is enough
    learning = {id(parameter) for parameter in names.values() if parameter.requires_grad}
    try:
        found: Any = set_peft_model_state_dict(model, dict(weights))
        placed = {id(names[name]) for name in names.keys() - set(found.missing_keys)}
        # beside embeddings peft saves its own copies of them too, under their long names
        long_names = {name.replace(f".{model.active_adapter}", ""): parameter for name, parameter in names.items()}
        copies = {k for k in found.unexpected_keys if k in long_names and _same_values(weights[k], long_names[k])}
        fits = learning <= placed and copies.issuperset(found.unexpected_keys)
    except KeyError:  # a copy of a whole layer (modules_to_save) is missing
        fits, copies = False, set()
    if fits:
        return
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    lists = {"missing": expected.keys() - weights.keys(), "unexpected": weights.keys() - expected.keys() - copies}
    told = " and ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in lists.items() if names)
    raise ModelError(
        f"{what} does not have the weights of such an adapter of this base model: of {len(expected)} expected, {told}; "
        "use the base and the settings it was trained with, and a complete copy"
    )


def some(names: Iterable[str], count: int = 3) -> str:
    """The first names of many."""
    names = sorted(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


@contextmanager
def adapter_off(model: PeftModel | PreTrainedModel) -> Iterator[None]:
    """Switches every adapter layer off, makes sure that it is, and back on."""
    with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        kinds = BaseTunerLayer, AuxiliaryTrainingWrapper
        on = [name for name, m in model.named_modules() if isinstance(m, kinds) and not m.disable_adapters]
        if on:
            raise RuntimeError(f"adapter layers still on while the reference runs: {on[:3]}")
        yield


# ---- the base stays itself, whatever a folder brings: it is the reference ----


def _state(tensor: Tensor) -> tuple[int, int, bool]:
    # PyTorch counts the changes of every tensor; a copy of all values would take the model's memory again
    return tensor.data_ptr(), tensor._version, tensor.requires_grad


def _check_base_kept(model: PeftModel, own: Mapping[int, tuple[int, int, bool]], what: str) -> None:
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    changed = [name for name, tensor in tensors.items() if id(tensor) in own and _state(tensor) != own[id(tensor)]]
    if changed:
        raise _not_the_base(what, f"{len(changed)} of its weights ({some(changed)})")


def _without_base_weights(
    model: PeftModel, weights: Mapping[str, Tensor], own: Mapping[int, Any], what: str
) -> dict[str, Tensor]:
    """Leaves out copies of the base's own weights, such as embeddings, which peft saves beside an adapter."""
    tensors = dict((*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)))
    copies = {name: tensors[name] for name in weights if name in tensors and id(tensors[name]) in own}
    changed = [name for name, tensor in copies.items() if not _same_values(weights[name], tensor)]
    if changed:
        raise _not_the_base(what, f"{len(changed)} of its weights ({some(changed)})")
    return {name: tensor for name, tensor in weights.items() if name not in copies}


def _same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, up to the rounding of the coarser one."""
    if one.shape != other.shape or other.is_meta:
        return one.shape == other.shape
    other = other.detach().to("cpu")
    return torch.equal(one.to(other.dtype), other) or torch.equal(other.to(one.dtype), one)


def _not_the_base(what: str, changed: str) -> ModelError:
    return ModelError(
        f"{what} changes the base model itself, {changed}, but the base with its adapter off is the reference and must "
        "stay as it is: train the adapter without that (with peft's LoRA: bias none, a plain init_lora_weights), or "
        "merge both into a new base model"
    )


@torch.no_grad()
def _answer(model: PreTrainedModel | PeftModel) -> Tensor | None:
    """Logits of a short row; None on the meta device, which computes nothing."""
    device = next(iter(model.parameters())).device
    if device.type == "meta":
        return None
    config: Any = model.config
    row = torch.arange(1, 9, device=device).unsqueeze(0) % config.get_text_config().vocab_size
    return cast(Tensor, model(input_ids=row, use_cache=False).logits)


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    """The same up to what a device may differ in from one run to the next."""
    if one is None or other is None:
        return one is other
    scale = float(one.nan_to_num(0, 0, 0).abs().max())  # half precision may overflow
    tolerance = 8 * torch.finfo(one.dtype).eps * scale
    return torch.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)
