"""One set of weights, two views: adapter on is the policy, adapter off is the frozen reference.

                   +--> .policy     adapter on,  gradients to the adapter alone
Backbone (weights) |
                   +--> .reference  adapter off, inference mode, no gradients: all the scorer ever sees
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from squish_pl.errors import CheckpointError, ModelError
from squish_pl.lm.fingerprint import fingerprint
from squish_pl.lm.language_model import LanguageModel, has_adapter
from squish_pl.lm.log_probs import token_log_probs
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.adapter_loading import adapter_off, load_adapter, load_weights, some
from squish_pl.policy.passes import Passes
from squish_pl.score.reference import ReferenceModel


class Backbone(nn.Module):
    """A causal language model with a LoRA adapter, in one memory.

    Args:
        model: The base model; its weights are frozen.
        tokenizer: Its tokenizer.
        lora: The new adapter's settings; None for no adapter: a model that writes as it is, and learns nothing.
        adapter: Folder of a PEFT adapter to go on from instead.
        base: The base's name as users know it, for the adapter's configuration; by default the model's own.

    Attributes:
        model: The model with its adapter, a `PeftModel`; the base model itself where there is none.

    Raises:
        ModelError: The adapter cannot be read, or was made for another base model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        lora: LoraSettings | None = LoraSettings(),
        adapter: str | None = None,
        base: str | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint(model)
        model.requires_grad_(False)
        self.model: Any = model
        if adapter is not None:
            self.model = load_adapter(model, adapter, self.fingerprint, base)
        elif lora is not None:
            try:
                self.model = get_peft_model(model, lora.to_peft())
            except ValueError as error:
                raise ModelError(f"model.lora does not fit the model: {str(error).splitlines()[0]}") from None
        if base is not None and isinstance(self.model, PeftModel):
            for config in self.model.peft_config.values():
                config.base_model_name_or_path = base
        self.model.eval()  # peft's wrapper begins in training mode around a base in evaluation mode
        self.compiled = False
        self._layers = _checkpointable(model)
        self.checkpoint_layers(0)
        self._lm = LanguageModel(model)
        self._half = has_adapter(model) and model.dtype in (torch.bfloat16, torch.float16)
        for layer in self.model.modules():
            if self._half and isinstance(layer, BaseTunerLayer):
                setattr(layer, "cast_input_dtype_enabled", False)  # noqa: B010 - see `precision`; typed as modules
        self.policy = PolicyView(self)
        self.reference: ReferenceModel = ReferenceView(self)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self._lm.device

    @property
    def context_length(self) -> int:
        """The longest row the model can read, tokens."""
        return self._lm.context_length

    @property
    def language_model(self) -> LanguageModel:
        """The model taken apart, adapter as it stands. For the views; everyone else goes through one of them."""
        return self._lm

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The parameters that learn."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's weights by PEFT's names; not copied."""
        return get_peft_model_state_dict(self.model, save_embedding_layers=False)

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Puts adapter weights in place.

        Raises:
            CheckpointError: Names or shapes differ from this adapter's; the message names and counts them.
        """
        here, there = ({name: t.shape for name, t in tensors.items()} for tensors in (self.adapter_state(), state))
        if differ := {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}:
            raise CheckpointError(
                f"the checkpoint's adapter does not fit this one: {len(differ)} of the weights differ in name or shape "
                f"({some(differ)}); use the base and the lora settings it was trained with"
            )
        load_weights(self.model, state, "the checkpoint's adapter")

    @property
    def checkpointable_layers(self) -> int:
        """Decoder layers that can compute their activations again in backward instead of keeping them."""
        return len(self._layers)

    def checkpoint_layers(self, count: int) -> None:
        """Lets the first `count` layers keep only their inputs in a policy pass: less memory, more time.

        The first ones, since their activations would be kept the longest.
        """
        for i, layer in enumerate(self._layers):
            setattr(layer, "gradient_checkpointing", i < count)  # noqa: B010 - nn.Module types attributes as modules
        self.checkpointed_layers = count

    def compile_layers(self, compiled: bool = True) -> None:
        """Compiles each decoder layer by itself (regional compilation), lengths left open; or undoes it."""
        layers = getattr(self._lm.decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise ModelError(f"there is no list of layers in {type(self._lm.decoder).__name__}")
        self.compiled = compiled
        # policy and reference, checkpointed or not, with and without gradients, are variants of one layer
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 32)
        for layer in layers:
            if compiled:
                layer.compile(dynamic=True)
            else:
                layer._compiled_call_impl = None

    def precision(self) -> AbstractContextManager[Any]:
        """What the adapter computes in: the base's half precision, where it has one.

        Its weights stay in float32, for small learning rates to show. peft would turn every layer's input into
        float32 instead and keep that for backward: about 1.4 times the memory, and slower multiplications.
        """
        device = self.device.type
        return torch.autocast(device, self._lm.model.dtype) if self._half and device != "meta" else nullcontext()

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Switches dropout off for a while, for passes that are compared."""
        layers = [(module, module.p) for module in self.model.modules() if isinstance(module, nn.Dropout)]
        for layer, _ in layers:
            layer.p = 0.0
        try:
            yield
        finally:
            for layer, p in layers:
                layer.p = p

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """Sets training or evaluation mode for a while.

        A policy pass stays in training mode until its backward has ended: layers that compute their activations again
        would do it without the adapter's dropout otherwise.
        """
        before = self.model.training
        if before != training:
            self.model.train(training)
        try:
            yield
        finally:
            if before != training:
                self.model.train(before)


class PolicyView:
    """The model with its adapter on: what samples and learns."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = _Handle(backbone)
        self._passes: Passes | None = None

    @property
    def device(self) -> torch.device:
        return self._backbone().device

    @property
    def passes(self) -> Passes:
        """The way rollouts and policy passes run; see `trials.choose_passes`."""
        if self._passes is None:
            raise RuntimeError("choose_passes(policy) comes first: it settles how groups run through the model")
        return self._passes

    @passes.setter
    def passes(self, passes: Passes) -> None:
        self._passes = passes

    @property
    def has_passes(self) -> bool:
        """Whether a way was chosen."""
        return self._passes is not None

    def without_dropout(self) -> AbstractContextManager[None]:
        """See `Backbone.without_dropout`."""
        return self._backbone().without_dropout()

    def parameters(self) -> list[nn.Parameter]:
        """The adapter's: those that learn."""
        return self._backbone().adapter_parameters()

    def hidden(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """[B, L] token ids, padded on the right -> [B, L, H], with gradients to the adapter."""
        backbone = self._backbone()
        # checkpointing and adapter dropout work in training mode only, and make sense with gradients only
        with backbone.mode(training=torch.is_grad_enabled()), backbone.precision():
            return backbone.language_model.hidden(input_ids, **kwargs)

    def token_log_probs(
        self, hidden: Tensor, targets: Tensor, temperature: float, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies from hidden states; see `log_probs.token_log_probs`."""
        weight = self._backbone().language_model.frozen_head_weight
        return token_log_probs(
            hidden, self.head, targets, temperature, frozen_weight=weight, entropy_gradient=entropy_gradient
        )

    @property
    def config(self) -> Any:
        """The model's configuration (of its text part)."""
        return self._backbone().language_model.model.config.get_text_config()

    @property
    def dtype(self) -> torch.dtype:
        """Of the base's weights."""
        return self._backbone().language_model.model.dtype

    def use_attention(self, name: str) -> None:
        """Lets the model's attention go through a function registered with transformers, where it is plain SDPA."""
        model = self._backbone().language_model.model
        if model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(name)

    def head(self, hidden: Tensor) -> Tensor:
        """[N, H] -> [N, V] logits."""
        backbone = self._backbone()
        with backbone.precision():  # the head may have an adapter too
            return backbone.language_model.head(hidden)

    @contextmanager
    def generating(self) -> Iterator[PreTrainedModel]:
        """The whole model in evaluation mode, without gradients, for sampling with a cache."""
        backbone = self._backbone()
        # a cache that grows by a token a step would be compiled again and again
        stance = torch.compiler.set_stance("force_eager") if backbone.compiled else nullcontext()
        language_model = backbone.language_model
        with (
            backbone.mode(training=False),
            backbone.precision(),
            torch.no_grad(),
            stance,
            language_model.wide_head(),  # what is drawn from is what is learnt from
        ):
            yield language_model.model


class ReferenceView(ReferenceModel):
    """The model with its adapter off, in inference mode: the frozen reference."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = _Handle(backbone)

    @property
    def device(self) -> torch.device:
        return self._backbone().device

    @property
    def context_length(self) -> int:
        return self._backbone().context_length

    @torch.inference_mode()
    def hidden(self, input_ids: Tensor, cache: Cache | None = None) -> Tensor:
        backbone = self._backbone()
        # compiled layers would be compiled once more for every kind of cache
        stance = torch.compiler.set_stance("force_eager") if backbone.compiled and cache is not None else nullcontext()
        with backbone.mode(training=False), adapter_off(backbone.model), stance:
            return backbone.language_model.hidden(input_ids, cache)

    @torch.inference_mode()
    def head(self, hidden: Tensor) -> Tensor:
        backbone = self._backbone()
        with adapter_off(backbone.model):
            return backbone.language_model.head(hidden)

    @property
    def head_weight(self) -> Tensor | None:
        return self._backbone().language_model.frozen_head_weight


def _checkpointable(model: PreTrainedModel) -> list[nn.Module]:
    """The layers whose checkpointing transformers can switch, made ready; none in some models."""
    if not model.supports_gradient_checkpointing:
        return []
    # transformers is renaming it
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


class _Handle:
    """A reference to the backbone that nn.Module does not take for a submodule (it would contain itself)."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    def __call__(self) -> Backbone:
        return self._backbone
