"""What each phase holds in memory: counted in two small passes through the model at hand, then a straight line.

    policy pass   tokens * (per token, by the layers that are checkpointed), one slice of the output head
    scoring       tokens * per token, one slice of the output head
    rollout       keys and values of prompts and completions, one tensor of them twice (rows leave, buffers grow)
                  + prefill of the longest prompt (padded: of all) + one draw

Flash attention holds no square matrix, so all of it is linear in the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from squish_pl.lm.log_probs import SLICE_TOKENS
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.tracker import AllocationTracker, peak_bytes

_SMALL, _LARGE = 32, 96  #: tokens of the passes that are counted
_DRAW_BYTES = 48  #: bytes a row and vocabulary entry while a token is drawn: its distribution in float64, several times


class Costs:
    """Bytes of each phase of a round, for one model and adapter.

    Args:
        backbone: The model, on the device where it will run ("meta" will do).
        entropy_gradient: Whether policy passes make the gradient of the entropies too.
    """

    def __init__(self, backbone: Backbone, entropy_gradient: bool = False) -> None:
        self._backbone, self._entropy_gradient = backbone, entropy_gradient
        self.layers = backbone.checkpointable_layers

    def learning(self, tokens: int, checkpointed: int) -> int:
        """A policy pass, forward and backward, beyond weights and gradients.

        Args:
            tokens: Tokens through the model.
            checkpointed: Layers whose activations are computed again in backward.
        """
        kept, peak = self._plain
        if checkpointed:
            kept_if_all, peak_if_all = self._checkpointed
            kept -= checkpointed / self.layers * (kept - kept_if_all)
            # the last layer's activations are needed at once: checkpointing it does not lower the peak
            inner = max(1, self.layers - 1)
            peak -= min(checkpointed, inner) / inner * (peak - peak_if_all)
        # the head's slices come and go between the layers' forward and backward
        return int(max(peak * tokens, kept * tokens + self._head_bytes * min(tokens, SLICE_TOKENS)))

    def scoring(self, tokens: int) -> int:
        """A forward pass of the reference."""
        return int(self._forward * tokens + self._head_bytes * min(tokens, SLICE_TOKENS))

    def rollout(self, prompts: int, prompt_tokens: int, rows: int, new_tokens: int) -> int:
        """Decoding.

        Args:
            prompts: Prompts whose groups are decoded together.
            prompt_tokens: Tokens of the longest.
            rows: Sequences, all groups together.
            new_tokens: Cap on a sequence.
        """
        at_once, copies = self._backbone.policy.passes.prompts_held(prompts, rows)
        cached = (copies * prompt_tokens + rows * new_tokens) * self.cache_bytes
        cached += cached // (2 * int(self._backbone.policy.config.num_hidden_layers))
        return int(self._forward * at_once * prompt_tokens + cached + rows * self._vocabulary * _DRAW_BYTES)

    @property
    def device(self) -> torch.device:
        """Where the model lies now."""
        return self._backbone.device

    @property
    def gradients(self) -> int:
        """The adapter's gradients, in float32 at least, like the adapter itself."""
        return sum(p.numel() * max(4, p.element_size()) for p in self._backbone.adapter_parameters())

    @property
    def optimizer_state(self) -> int:
        """AdamW's two moments."""
        return 2 * self.gradients

    @property
    def weights(self) -> int:
        """All weights, each once."""
        frozen = (p for p in self._backbone.model.parameters() if not p.requires_grad)
        return self.gradients + sum(p.numel() * p.element_size() for p in frozen)

    @cached_property
    def cache_bytes(self) -> int:
        """Keys and values of a token in all layers."""
        config = self._backbone.policy.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * size * self._backbone.policy.dtype.itemsize)

    @property
    def _vocabulary(self) -> int:
        return int(self._backbone.policy.config.vocab_size)

    @cached_property
    def _plain(self) -> list[float]:
        """Bytes a token (kept for backward, at the peak) without checkpointing."""
        return _slopes(lambda tokens: self._pass(tokens, 0))

    @cached_property
    def _checkpointed(self) -> list[float]:
        """The same with every layer checkpointed."""
        return _slopes(lambda tokens: self._pass(tokens, self.layers))

    @cached_property
    def _forward(self) -> float:
        """Bytes a token of a pass without gradients."""

        def work(tokens: int) -> tuple[int]:
            with torch.no_grad():
                return (peak_bytes(lambda: self._hidden(tokens)),)

        (per_token,) = _slopes(work)
        return per_token

    @cached_property
    def _head_bytes(self) -> float:
        """Bytes a token that the output head holds for a slice of its hidden states."""
        policy = self._backbone.policy
        with torch.no_grad():
            hidden = self._hidden(4)[:1]

        def work(tokens: int) -> tuple[int]:
            rows = hidden.expand(tokens, -1).contiguous().requires_grad_()
            asked = 1.0, self._entropy_gradient
            return (peak_bytes(lambda: policy.token_log_probs(rows, self._ids(tokens), *asked)),)

        (per_token,) = _slopes(work)
        return per_token

    def _pass(self, tokens: int, checkpointed: int) -> tuple[int, int]:
        before = self._backbone.checkpointed_layers
        self._backbone.checkpoint_layers(checkpointed)
        try:
            with self._backbone.mode(training=True), AllocationTracker() as tracker:
                hidden = self._hidden(tokens)
                kept = tracker.live
                # gradients are returned, not accumulated: a pass may be under way
                torch.autograd.grad(hidden.sum(), self._backbone.adapter_parameters(), allow_unused=True)
            return kept, tracker.peak
        finally:
            self._backbone.checkpoint_layers(before)

    def _hidden(self, tokens: int) -> Tensor:
        """[tokens, H] of a made-up group."""
        return self._backbone.policy.passes.measured_hidden(self._ids(tokens))

    def _ids(self, tokens: int) -> Tensor:
        return torch.arange(tokens, device=self._backbone.policy.device) % self._vocabulary


def _slopes(measure: Callable[[int], Sequence[int]]) -> list[float]:
    """How much each figure grows with each token; what does not grow with them (gradients) drops out."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with (
        torch.random.fork_rng(devices=devices),  # a trial's dropout must not move the run's random numbers
        torch.compiler.set_stance("force_eager"),  # its lengths are not worth compiling
        torch.inference_mode(False),  # validation may come first
        torch.enable_grad(),
    ):
        small, large = measure(_SMALL), measure(_LARGE)
    return [(b - a) / (_LARGE - _SMALL) for a, b in zip(small, large, strict=True)]
