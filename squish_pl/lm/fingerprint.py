"""Telling base models apart, whatever they are called."""

from __future__ import annotations

import hashlib

import torch
from transformers import PreTrainedModel


def fingerprint(model: PreTrainedModel) -> str:
    """A short hash that tells base models apart, whatever they are called.

    The same in float32, float64 and bfloat16 (not in float16, which rounds otherwise): made of the shapes of all
    weights and of the first values of each, in bfloat16.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        if parameter.is_meta:  # no values, only shapes
            continue
        head = parameter.detach().flatten()[:64].to("cpu", torch.bfloat16)
        digest.update(head.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]
