"""A decoding step of the common decoder layers in few kernels.

At a row a token each kernel of a step is so short that launching it takes longer, and the library's layers launch some
hundred. Here a layer launches a quarter of that, with the same mathematics:

    - layers that read the same input are one product, their adapters' first matrices among its rows, and one more adds
      all adapters' parts. The base's weights move into one tensor for it, in which they stay what they were
    - the sum with what went in belongs to the product
    - norms are single kernels; those of queries and keys are one, their weights multiplied into the rotation's angles

The adapter keeps its own products: merged into half-precision weights its small changes would be rounded away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import rms_norm
from transformers import PreTrainedModel

Attend = Callable[[int, Tensor, Tensor, float], Tensor]
"""(layer, [R, Hq, D] queries, [R, 2 * Hkv, D] keys and values, scale) -> [R, Hq, D]."""

_MODELS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


class FusedStep:
    """The decoder's layers for one token a row, weights and adapter as they are now.

    Args:
        model: The causal language model, adapter layers in it.

    Raises:
        NotImplementedError: It has other layers, or another adapter, than this knows.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        if type(model).__name__ not in _MODELS:
            raise NotImplementedError(f"no fused step for {type(model).__name__}")
        self._decoder: Any = model.get_decoder()
        self._head: Any = model.get_output_embeddings()
        self._layers = [_Layer(layer) for layer in self._decoder.layers]
        weights = [layer.angle_weights for layer in self._layers]
        # [layers, 1, Hq + Hkv, D], where queries and keys have norms
        self._angle_weights = (
            torch.stack([w for w in weights if w is not None]).unsqueeze(1) if weights[0] is not None else None
        )

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """[R] tokens at [R, 1] positions -> [R, V] logits of the next."""
        with torch.autocast(tokens.device.type, enabled=False):
            hidden = self._decoder.embed_tokens(tokens)
            cos, sin = (x.squeeze(1).unsqueeze(1) for x in self._decoder.rotary_emb(hidden, positions))
            angles: Sequence[tuple[Tensor, Tensor]] = [(cos, sin)] * len(self._layers)
            if (weights := self._angle_weights) is not None:
                half = cos.shape[-1] // 2
                angles = list(zip(cos * weights, sin * weights.roll(half, dims=-1), strict=True))
            for number, (layer, of_layer) in enumerate(zip(self._layers, angles, strict=True)):
                hidden = layer(number, hidden, *of_layer, attend)
            hidden = _norm(self._decoder.norm, hidden)
        return self._head(hidden)


class _Layer:
    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._norms = layer.input_layernorm, layer.post_attention_layernorm
        size = int(attention.head_dim)
        # whole heads in all, so that one norm takes what the product gives as it lies
        self._qkv = _Grouped([attention.q_proj, attention.k_proj, attention.v_proj], size)
        self._gate_up = _Grouped([mlp.gate_proj, mlp.up_proj])
        self._o, self._down = _Added(attention.o_proj), _Added(mlp.down_proj)
        self._act, self._scale, self._size = mlp.act_fn, float(attention.scaling), size
        self._heads, self._key_heads = (size // self._size for size in self._qkv.sizes[:2])
        self._eps = 0.0
        self.angle_weights: Tensor | None = None  #: [Hq + Hkv, D], the weights of the norms of queries and keys
        if getattr(attention, "q_norm", None) is not None:
            norms = attention.q_norm, attention.k_norm
            if norms[0].variance_epsilon != norms[1].variance_epsilon:
                raise NotImplementedError("queries and keys have different norms")
            self._eps = norms[0].variance_epsilon
            counts = self._heads, self._key_heads
            rows = [norm.weight.detach().expand(n, -1) for norm, n in zip(norms, counts, strict=True)]
            self.angle_weights = torch.cat(rows)

    def __call__(self, number: int, hidden: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        heads = self._qkv(_norm(self._norms[0], hidden)).unflatten(1, (-1, self._size))
        turned, half = self._heads + self._key_heads, self._size // 2
        qk, kv = heads[:, :turned], heads[:, self._heads : turned + self._key_heads]
        if self.angle_weights is not None:
            plain = rms_norm(heads, (self._size,), None, self._eps)[:, :turned]
        else:
            plain = qk.clone()
        torch.mul(plain, cos, out=qk)
        qk[..., :half].addcmul_(plain[..., half:], sin[..., :half], value=-1)
        qk[..., half:].addcmul_(plain[..., :half], sin[..., half:])
        out = attend(number, heads[:, : self._heads], kv, self._scale)
        hidden = self._o(hidden, out.flatten(1))
        gate, up, *_ = self._gate_up(_norm(self._norms[1], hidden)).split(self._gate_up.columns, dim=1)
        return self._down(hidden, self._act(gate) * up)


class _Grouped:
    """Linear layers that read the same input: [R, in] -> [R, all their outputs side by side, and columns to ignore].

    Args:
        layers: With adapters or without.
        multiple: Of how many columns the result shall be.
    """

    def __init__(self, layers: Sequence[nn.Module], multiple: int = 1) -> None:
        bases, adapters = zip(*map(_parts, layers), strict=True)
        self.sizes = [base.out_features for base in bases]
        self._out = sum(self.sizes)
        ranks = [0 if adapter is None else adapter[0].shape[0] for adapter in adapters]
        self._inner = slice(self._out, self._out + sum(ranks))
        more = sum(ranks) + -(self._out + sum(ranks)) % multiple
        self.columns = [*self.sizes, more]
        self._weight = _side_by_side(bases, more)
        self._weight[self._out :] = 0
        self._bias = None
        if any(base.bias is not None for base in bases):
            parts = [self._weight.new_zeros(base.out_features) if base.bias is None else base.bias for base in bases]
            self._bias = torch.cat([*parts, self._weight.new_zeros(more)])
        self._b = self._weight.new_zeros(self._out, sum(ranks)) if sum(ranks) else None
        row = column = 0
        for size, rank, adapter in zip(self.sizes, ranks, adapters, strict=True):
            if adapter is not None and self._b is not None:
                a, b, scale = adapter
                self._weight[self._out + column : self._out + column + rank] = a
                self._b[row : row + size, column : column + rank] = b * scale
            row, column = row + size, column + rank

    def __call__(self, x: Tensor) -> Tensor:
        y = x @ self._weight.T if self._bias is None else torch.addmm(self._bias, x, self._weight.T)
        if self._b is not None:
            y[:, : self._out].addmm_(y[:, self._inner], self._b.T)
        return y


class _Added:
    """A linear layer whose output is added to what there is: [R, out], [R, in] -> [R, out], in place."""

    def __init__(self, layer: nn.Module) -> None:
        base, adapter = _parts(layer)
        if base.bias is not None:
            raise NotImplementedError("a bias where none was expected")
        self._weight: Tensor = base.weight.detach()
        self._a: Tensor | None = None
        self._b: Tensor | None = None
        if adapter is not None:
            a, b, scale = adapter
            self._a, self._b = a.to(self._weight.dtype), (b * scale).to(self._weight.dtype)

    def __call__(self, hidden: Tensor, x: Tensor) -> Tensor:
        hidden.addmm_(x, self._weight.T)
        return hidden if self._a is None or self._b is None else hidden.addmm_(x @ self._a.T, self._b.T)


def _norm(norm: Any, x: Tensor) -> Tensor:
    return rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def _parts(layer: nn.Module) -> tuple[nn.Linear, tuple[Tensor, Tensor, float] | None]:
    """(the base's layer, its adapter as (A [r, in], B [out, r], scale) if it is on)."""
    if type(layer) is nn.Linear and "forward" not in vars(layer):
        return layer, None
    if type(layer) is not LoraLinear or type(layer.base_layer) is not nn.Linear or layer.merged:
        raise NotImplementedError(f"no fused step with {type(layer).__name__}")
    if layer.disable_adapters:
        return layer.base_layer, None
    names, adapter = list(layer.active_adapters), cast(Any, layer)
    name = names[0] if names else ""
    plain = len(names) == 1 and name in adapter.lora_A and not adapter.lora_variant and not adapter.fan_in_fan_out
    if not plain or adapter.lora_bias.get(name):
        raise NotImplementedError("the adapter is no plain LoRA")
    a, b = adapter.lora_A[name].weight.detach(), adapter.lora_B[name].weight.detach()
    return layer.base_layer, (a, b, float(adapter.scaling[name]))


def _side_by_side(layers: Sequence[nn.Linear], more: int) -> Tensor:
    """[all outputs + more, in] of frozen layers, whose own weights become parts of it; the last rows are free."""
    first = layers[0].weight
    size = sum(layer.out_features for layer in layers)
    storage, place = first.untyped_storage(), 0
    together = storage.nbytes() == (size + more) * first.shape[1] * first.element_size()
    for layer in layers:
        weight = layer.weight
        together &= weight.untyped_storage()._cdata == storage._cdata and weight.storage_offset() == place
        place += weight.numel()
    if together:
        return first.detach().as_strided((size + more, first.shape[1]), (first.shape[1], 1), 0)
    with torch.inference_mode(False):  # validation may come first, and these are learnt through later
        grouped, row = first.detach().new_empty(size + more, first.shape[1]), 0
        for layer in layers:
            part = grouped[row : row + layer.out_features]
            part.copy_(layer.weight.detach())
            layer.weight.data = part
            row += layer.out_features
    return grouped
