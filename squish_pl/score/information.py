"""Information of tokens under the reference: the only place where the score runs a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from squish_pl.errors import DataError
from squish_pl.log_probs import predicting_slice, token_log_probs
from squish_pl.score.reference import ReferenceModel


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to be measured behind a prefix.

    Attributes:
        prefix: Token ids read first, at least the start token.
        targets: T token ids whose information is wanted.
    """

    prefix: tuple[int, ...]
    targets: tuple[int, ...]

    def __len__(self) -> int:
        # the last target is only predicted, never read
        return len(self.prefix) + len(self.targets) - 1


@torch.inference_mode()
def token_information(reference: ReferenceModel, rows: Sequence[Row], batch_tokens: int) -> list[Tensor]:
    """Information of every target token, -ln p(token | prefix, earlier targets).

    Rows are sorted by length and packed into batches, padded on the right, where causal attention never looks: no
    mask is needed, and a row's result does not depend on its neighbours beyond the rounding of batched kernels.

    Args:
        reference: The frozen model.
        rows: Rows with at least one target each.
        batch_tokens: Most tokens in one forward pass, padding included (a single longer row still runs alone).

    Returns:
        For each row [T] float32 (float64 for a float64 model) on the CPU, nats, in the order given.

    Raises:
        DataError: A row is longer than the reference's context.
    """
    longest = max((len(row) for row in rows), default=0)
    if longest > reference.context_length:
        raise DataError(
            f"a document with its summary takes {longest} tokens, but the reference reads at most "
            f"{reference.context_length}: cut documents to fewer tokens (data.max_tokens)"
        )
    results: list[Tensor | None] = [None] * len(rows)
    for batch in batches_by_length([len(row) for row in rows], batch_tokens):
        for index, information in zip(batch, _forward(reference, [rows[i] for i in batch]), strict=True):
            results[index] = information
    return [result for result in results if result is not None]


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, each of at most `batch_tokens` padded tokens."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _forward(reference: ReferenceModel, rows: list[Row]) -> list[Tensor]:
    width = max(len(row) for row in rows)
    # the start token as filler: any id of the vocabulary does, since nothing looks at it
    input_ids = torch.full((len(rows), width), rows[0].prefix[0], dtype=torch.long)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = torch.tensor((*row.prefix, *row.targets[:-1]))
    hidden = reference.hidden(input_ids.to(reference.device))
    wanted = [hidden[i, predicting_slice(len(row.prefix), len(row.targets))] for i, row in enumerate(rows)]
    targets = torch.tensor([t for row in rows for t in row.targets], device=hidden.device)
    log_probs, _ = token_log_probs(torch.cat(wanted), reference.head, targets)
    return [-piece for piece in log_probs.cpu().split([len(row.targets) for row in rows])]
