"""The interface of the two ways in which a group runs through the policy, and of their decoders.

    PaddedPasses         every completion is a row of its own behind its prompt     G rows of P + C tokens
    SharedPrefixPasses   the prompt runs once for all of its completions, exactly   P + sum(C_i) tokens

`trials.choose_passes` settles which of them a policy runs in.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, Literal, Union

from torch import Tensor
from transformers import PreTrainedModel

from squish_pl.types import Experience, Prompt

PassesName = Literal["auto", "shared_prefix", "padded"]  #: which of them is wanted
Compiling = Union[bool, Literal["auto"]]  #: whether layers are compiled


class Decoder(abc.ABC):
    """How the next token's logits of many rows are had, step by step.

    Rows are the G completions of the first prompt, then those of the second, and so on. A row that has ended leaves,
    and the others move up.

    Args:
        model: In evaluation mode, adapter on.
        group_size: G, rows a prompt.
        max_new_tokens: Most steps.
    """

    def __init__(self, model: PreTrainedModel, group_size: int, max_new_tokens: int) -> None:
        self.model, self.group_size, self.max_new_tokens = model, group_size, max_new_tokens
        self.device = next(model.parameters()).device

    @abc.abstractmethod
    def prefill(self, prompts: Sequence[Prompt]) -> Tensor:
        """Reads the prompts and returns the logits of every row's first token, [D * G, V]."""

    @abc.abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """Reads a token [R] for each row that is left and returns the logits of the next, [R, V]."""

    @abc.abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Leaves only these of the rows there are, [R'] increasing indices on the CPU."""


class Passes(abc.ABC):
    """How rollouts and policy passes run through a model, and what that costs."""

    name: ClassVar[str]  #: as settings and checkpoints call it
    decoder: ClassVar[type[Decoder]]  #: of its rollouts

    @abc.abstractmethod
    def log_probs(
        self, rows: Sequence[Experience], temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probs of the generated tokens under the policy as it is now.

        Args:
            rows: B completions with their prompts, of any lengths, group by group.
            temperature: The one they were sampled with.
            entropy_gradient: Whether the entropies carry gradients too.

        Returns:
            ([N] log-probs with gradients to the adapter, [N] entropies with or without), nats, the rows' tokens one
            after another.
        """

    @abc.abstractmethod
    def tokens(self, rows: Sequence[Experience]) -> int:
        """Tokens that a pass over these rows runs through the model, padding included."""

    @abc.abstractmethod
    def measured_hidden(self, token_ids: Tensor) -> Tensor:
        """[N, H] hidden states of a made-up group, [N] token ids in all: what the memory plan counts."""

    @abc.abstractmethod
    def prompts_held(self, prompts: int, rows: int) -> tuple[int, int]:
        """(prompts read in one pass, copies of prompts whose keys and values are held) in a rollout."""
