"""What flows from room to room, and the one glossary of shapes.

    Document -> Prompt -> Rollouts -> Scores -> rewards, advantages [D, G] -> Experience rows -> loss

Letters used for shapes everywhere:

    D  documents of a batch               G  summaries of a document (its group)
    P  tokens of a prompt                 C  tokens of a completion, the longest of its group
    T  tokens of a document               N  tokens of any flat list
    B  rows of one forward pass           H  hidden size        V  vocabulary
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from squish_pl.budget import Budget


@dataclass(frozen=True, slots=True)
class Document:
    """A text to summarise.

    Attributes:
        text: The text, already cut to the token limit of the run.
        id: The hash of the uncut text, the same in every run.
        url: Where it came from, for people.
        name: The source's own name for it (its field `id`), where it gives one.
        highlights: A summary that a person wrote of it, where the source has one.
        source: Name of the source it was drawn from, where there are several.
    """

    text: str
    id: str = ""
    url: str = ""
    name: str = ""
    highlights: str = ""
    source: str = ""


class DocumentBatch:
    """Documents of one step, with the place in the stream that comes after them.

    A plain class: Lightning takes dataclasses apart on their way to the device, and there is nothing to move here.

    Attributes:
        documents: D documents.
        position: For each data worker, a plain dictionary from which its stream goes on (see `data.stream`).
            The batch carries it because loaders read ahead: only a batch that was trained on moves the run's position.
    """

    __slots__ = ("documents", "position")

    def __init__(self, documents: Sequence[Document], position: Mapping[str, Any] | None = None) -> None:
        self.documents = list(documents)
        self.position = dict(position or {})

    def __len__(self) -> int:
        return len(self.documents)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy reads before it writes a summary.

    Attributes:
        document: The document to summarise.
        budget: The cap on the summary's length.
        text: The prompt as text, chat template applied.
        token_ids: P token ids.
    """

    document: Document
    budget: Budget
    text: str
    token_ids: tuple[int, ...]


class Finish(enum.IntEnum):
    """Why a completion ended."""

    CLOSED = 0  #: the closing tag was written: a parsable summary
    OUTGROWN = 1  #: longer than its budget allows, so the score is known to be 0
    CAPPED = 2  #: the limit on generated tokens was hit before the summary closed
    ENDED = 3  #: the model wrote its end token without closing the summary
    THOUGHT = 4  #: the limit on tokens of a thought was hit before it closed: there is no summary


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What G completions say before their summaries.

    Attributes:
        lengths: [G] int64, tokens of each thought, with the one that closes it; all of the completion where none does.
        texts: G texts, stripped, without tags.
    """

    lengths: Tensor
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A group: G completions of one prompt, sampled from the policy.

    A generated token is every sampled token up to the one that ends the summary, that one included.

    Attributes:
        prompt: The prompt all of them answer.
        token_ids: [G, C] int64, sampled tokens; 0 where `mask` is false.
        mask: [G, C] bool, true on generated tokens.
        log_probs: [G, C] float32, ln p of each sampled token under the distribution it was drawn from (the whole one,
            where only its likeliest tokens were drawn), nats.
        entropies: [G, C] float32, entropy of that distribution, nats.
        finish: [G] int64, `Finish` values.
        summaries: G parsed summaries; None where the completion cannot be parsed.
        thoughts: What stands before them; None without thinking.
    """

    prompt: Prompt
    token_ids: Tensor
    mask: Tensor
    log_probs: Tensor
    entropies: Tensor
    finish: Tensor
    summaries: list[str | None]
    thoughts: Thoughts | None = None

    @property
    def lengths(self) -> Tensor:
        """[G] int64, generated tokens of each completion."""
        return self.mask.sum(dim=1)

    @property
    def thought_mask(self) -> Tensor:
        """[G, C] bool, true on the tokens of thoughts."""
        if self.thoughts is None:
            return torch.zeros_like(self.mask)
        return torch.arange(self.mask.shape[1]) < self.thoughts.lengths.unsqueeze(1)

    @property
    def size(self) -> int:
        """G, the number of completions."""
        return self.token_ids.shape[0]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of G summaries of one document. All tensors lie on the CPU.

    Attributes:
        score: [G] float64, SQUISH; 0 for a summary that is missing, empty or over the budget.
        novel_score: [G] float64, SQUISH-novel: only document tokens in no n-gram shared with the summary count.
        saved: [G] float64, nats saved over the whole document. NaN where the scorer was told not to spend a
            forward pass on an over-budget summary; 0 for a missing or empty one.
        information: Nats of the document alone, I(d).
        within_budget: [G] bool, whether the summary is there (not None) and no longer than the budget allows; an
            empty one is.
        token_saved: [G, T] float32, nats saved per document token (rows follow `saved`).
        measures: [G] float64 of each measure that the scorer was asked for, by its name. One that has a zero gives it
            to a summary that is missing, empty or over the budget; the others give NaN.
    """

    score: Tensor
    novel_score: Tensor
    saved: Tensor
    information: float
    within_budget: Tensor
    token_saved: Tensor
    measures: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Experience:
    """One completion as the policy pass needs it: a row of the learning batch.

    Attributes:
        prompt_ids: [P] int64.
        completion_ids: [C_i] int64, generated tokens only.
        old_log_probs: [C_i] float32, nats, from sampling.
        advantage: The completion's advantage.
        weight: What a token of its summary counts in the loss: 1 / (its group's generated tokens, those of thoughts
            left out, * documents of the batch).
        thought_tokens: How many of its tokens, the first ones, are its thought.
        thought_weight: What each of them counts: share / (tokens of its group's thoughts * documents of the batch).
    """

    prompt_ids: Tensor
    completion_ids: Tensor
    old_log_probs: Tensor
    advantage: float
    weight: float
    thought_tokens: int = 0
    thought_weight: float = 0.0

    @property
    def token_weights(self) -> Tensor:
        """[C_i] float64, what each token counts."""
        weights = torch.full((len(self.completion_ids),), self.weight, dtype=torch.float64)
        weights[: self.thought_tokens] = self.thought_weight
        return weights


def groups_of(rows: Sequence[Experience]) -> Iterator[list[Experience]]:
    """Rows that follow one another and answer the same prompt."""
    # rows of a group hold the very same prompt tensor
    for _, members in groupby(rows, key=lambda row: id(row.prompt_ids)):
        yield list(members)


def joined(parts: Iterable[Tensor]) -> Tensor:
    """1-d float64 tensors one after another; an empty one of none."""
    return torch.cat([torch.zeros(0, dtype=torch.float64), *parts])


def pad_rows(rows: list[Tensor], value: float | int | bool = 0) -> Tensor:
    """Stacks 1-d tensors of different lengths into [len(rows), longest], filled on the right with `value`."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
