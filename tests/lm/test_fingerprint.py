"""Base models are told apart by their weights."""

import torch
from tiny import make_tiny_model

from squish_pl.lm.fingerprint import fingerprint


def test_the_fingerprint_tells_weights_apart_but_not_dtypes():
    one = fingerprint(make_tiny_model(seed=0))
    assert one == fingerprint(make_tiny_model(seed=0, dtype=torch.float64))
    assert one == fingerprint(make_tiny_model(seed=0).bfloat16())
    assert one != fingerprint(make_tiny_model(seed=1))
    assert one != fingerprint(make_tiny_model("llama", seed=0))


def test_without_values_shapes_tell():
    small, large = (make_tiny_model(context=context) for context in (64, 128))  # no weight depends on it
    assert fingerprint(small.to("meta")) == fingerprint(large.to("meta"))
    assert fingerprint(small) != fingerprint(make_tiny_model("llama").to("meta"))
