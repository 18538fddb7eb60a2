"""The frozen language model that measures information."""

from __future__ import annotations

import abc

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from squish_pl.lm.language_model import LanguageModel, has_adapter


class ReferenceModel(abc.ABC):
    """A frozen causal language model, seen as hidden states and an output head.

    The scorer takes nothing else, and every implementation guarantees that no adapter takes part and that no
    gradient is recorded: a score under a trained adapter cannot be had.
    """

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where token ids have to lie."""

    @property
    @abc.abstractmethod
    def context_length(self) -> int:
        """The longest row the model can read, tokens."""

    @abc.abstractmethod
    def hidden(self, input_ids: Tensor, cache: Cache | None = None) -> Tensor:
        """[B, L] token ids, padded on the right with anything -> [B, L, H] last hidden states.

        Attention is causal, so what stands on the right of a token cannot change it and needs no mask.

        Args:
            input_ids: On `device`.
            cache: Keys and values of what stands before the rows; see `lm.held_prefix`. An empty one is filled.
        """

    @abc.abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """[N, H] hidden states -> [N, V] logits."""

    @property
    def head_weight(self) -> Tensor | None:
        """[V, H] of the head, where it is a plain linear map without bias or adapter; else None."""
        return None


class FrozenModel(ReferenceModel):
    """A plain pretrained model as reference.

    Args:
        model: A causal language model without adapters. It is frozen and put into evaluation mode.

    Raises:
        TypeError: The model carries an adapter; use the reference view of `policy.Backbone` for such a model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        _refuse_adapter(model)
        self._lm = LanguageModel(model.eval().requires_grad_(False))

    @property
    def device(self) -> torch.device:
        return self._lm.device

    def to(self, device: torch.device) -> None:
        """Moves the weights."""
        self._lm.model.to(device)  # type: ignore[arg-type]

    @property
    def context_length(self) -> int:
        return self._lm.context_length

    @torch.inference_mode()
    def hidden(self, input_ids: Tensor, cache: Cache | None = None) -> Tensor:
        _refuse_adapter(self._lm.model)  # peft changes a model in place: one may have been put in since
        return self._lm.hidden(input_ids, cache)

    @torch.inference_mode()
    def head(self, hidden: Tensor) -> Tensor:
        return self._lm.head(hidden)

    @property
    def head_weight(self) -> Tensor | None:
        return self._lm.frozen_head_weight


def _refuse_adapter(model: PreTrainedModel) -> None:
    if has_adapter(model):
        raise TypeError("the reference must not carry an adapter: use Backbone(...).reference, which keeps it off")
