"""A causal language model taken apart into hidden states and output head."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from squish_pl.lm.log_probs import HALF, wide_logits

log = logging.getLogger(__name__)


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

    def hidden(self, input_ids: Tensor, cache: Cache | None = None, **kwargs: Any) -> Tensor:
        """[B, L] -> [B, L, H] last hidden states (normalised, ready for the head); `cache` stands before them."""
        if cache is not None:
            kwargs["past_key_values"] = cache
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

    @contextmanager
    def wide_head(self) -> Iterator[None]:
        """Meanwhile the whole model's logits are in float32, where its head is a plain one in half precision.

        Without gradients; see `wide_logits`.
        """
        weight, head = self.frozen_head_weight, self.model.get_output_embeddings()
        if weight is None or weight.dtype not in HALF or "forward" in vars(head):
            yield  # a head whose forward was replaced by another (a hook that moves weights) is left alone
            return
        head.forward = partial(wide_logits, weight=weight)
        try:
            yield
        finally:
            del head.forward

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
