"""An adapter merged into its base: one plain model that writes as the policy does."""

from __future__ import annotations

from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from squish_pl.errors import ModelError

_TOLERANCE = 1e-4  # nats: float32 adds up in another order
_ROW = 32  # tokens


@torch.no_grad()
def merge(model: PeftModel) -> PreTrainedModel:
    """Merges an adapter into its base, in place, and makes sure that the policy is what came of it.

    Embeddings that are tied, of which the adapter changes one side alone, become two.

    Args:
        model: The base in float32 or float64 with its adapter on.

    Raises:
        ModelError: The merged model gives other log-probs, such as for a kind of adapter that cannot be merged.
    """
    expected = _log_probs(model)
    base = cast(PreTrainedModel, model.get_base_model())
    if _is_tied(base) and any(map(_adapted, (base.get_input_embeddings(), base.get_output_embeddings()))):
        _untie(base)
    try:
        merged = cast(PreTrainedModel, model.merge_and_unload(safe_merge=True))
    except Exception as error:  # kinds of adapters fail in their own ways
        raise ModelError(f"this adapter cannot be merged into its base: {error}") from None
    difference = float((_log_probs(merged) - expected).abs().max())
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"the merged model is not the policy: its log-probs differ by up to {difference:.2g} nats; serve the base "
            "with the adapter beside it instead"
        )
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    return merged


def _log_probs(model: nn.Module) -> Tensor:
    """[tokens, V] of a short row."""
    plain: Any = model
    size = plain.config.get_text_config().vocab_size
    row = torch.arange(7, 7 + 11 * _ROW, 11, device=next(model.parameters()).device).unsqueeze(0) % size
    return torch.log_softmax(plain(input_ids=row, use_cache=False).logits[0].double(), dim=-1)


def _is_tied(model: PreTrainedModel) -> bool:
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def _adapted(layer: nn.Module | None) -> bool:
    return isinstance(layer, (BaseTunerLayer, AuxiliaryTrainingWrapper))


def _untie(model: PreTrainedModel) -> None:
    head: Any = model.get_output_embeddings()
    for name in ("base_layer", "original_module"):
        head = getattr(head, name, head)
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
    model.config.get_text_config().tie_word_embeddings = False
