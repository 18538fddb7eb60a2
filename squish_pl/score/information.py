"""Information of tokens under the reference: the only place where the score runs a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from squish_pl.errors import DataError
from squish_pl.lm.held_prefix import HeldPrefix
from squish_pl.lm.log_probs import chosen_log_probs, log_softmax, predicting_slice
from squish_pl.score.reference import ReferenceModel

MAX_PADDING = 0.05  #: share of a batch's tokens that is padding stays below it


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
    if not rows:
        return []
    _check_length(reference, max(map(len, rows)))
    batches = list(batches_by_length([len(row) for row in rows], batch_tokens))
    measured = [_forward(reference, [rows[i] for i in batch]) for batch in batches]
    order = [index for batch in batches for index in batch]
    # moved to the CPU once: on a GPU each move waits for all work before it
    pieces = torch.cat(measured).cpu().split([len(rows[i].targets) for i in order])
    results = dict(zip(order, pieces, strict=True))
    return [-results[i] for i in range(len(rows))]


@torch.inference_mode()
def information_behind(
    reference: ReferenceModel,
    prefix: Sequence[int],
    rows: Sequence[Sequence[int]],
    batch_tokens: int,
    ends: Sequence[int],
) -> tuple[list[Tensor], Tensor]:
    """Information of rows that share a prefix, which is read once for all of them, and of their ending.

    Models that leave no keys and values of the whole prefix read it in every row.

    Args:
        reference: The frozen model.
        prefix: P token ids, at least the start token.
        rows: For each of G rows its S token ids, at least one.
        batch_tokens: Most tokens of rows in one forward pass, padding included.
        ends: Token ids that end a row.

    Returns:
        (for each row [S] of its tokens, as `token_information` has it; [G] of any of `ends` to follow), on the CPU.

    Raises:
        DataError: A row with its prefix is longer than the reference's context.
    """
    _check_length(reference, len(prefix) + max(map(len, rows)))
    read = DynamicCache()
    before = reference.hidden(torch.tensor([list(prefix)], device=reference.device), read)[0, -1:]
    held = HeldPrefix(read) if HeldPrefix.can_hold(read) else None
    repeated = () if held is not None else tuple(prefix)
    hidden: dict[int, Tensor] = {}
    for batch in batches_by_length([len(repeated) + len(ids) for ids in rows], batch_tokens):
        width = max(len(rows[i]) for i in batch)
        filled = [[*repeated, *rows[i], *[prefix[0]] * (width - len(rows[i]))] for i in batch]
        after = reference.hidden(torch.tensor(filled, device=reference.device), held)[:, len(repeated) :]
        hidden |= {i: torch.cat([before, own[: len(rows[i])]]) for i, own in zip(batch, after, strict=True)}
    targets = torch.tensor([token for ids in rows for token in ids], device=reference.device)
    predicting = torch.cat([hidden[i][:-1] for i in range(len(rows))])
    log_probs = chosen_log_probs(predicting, reference.head, targets, weight=reference.head_weight)
    last = reference.head(torch.stack([hidden[i][-1] for i in range(len(rows))]))
    ended = log_softmax(last)[:, list(ends)]
    return [-piece for piece in log_probs.cpu().split(list(map(len, rows)))], -ended.logsumexp(dim=-1).cpu()


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first.

    A batch holds at most `batch_tokens` padded tokens, of which less than `MAX_PADDING` are padding; a length that
    would break either rule starts a new one.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        padded = (len(batch) + 1) * lengths[batch[0] if batch else index]
        if batch and (padded > batch_tokens or padded - tokens - lengths[index] >= MAX_PADDING * padded):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def _check_length(reference: ReferenceModel, longest: int) -> None:
    if longest > reference.context_length:
        raise DataError(
            f"a document with its summary takes {longest} tokens, but the reference reads at most "
            f"{reference.context_length}: cut documents to fewer tokens (max_tokens)"
        )


def _forward(reference: ReferenceModel, rows: list[Row]) -> Tensor:
    """Log-probs of all rows' targets in one row, on the reference's device."""
    width = max(len(row) for row in rows)
    # the start token as filler: any id of the vocabulary does, since nothing looks at it
    input_ids = torch.full((len(rows), width), rows[0].prefix[0], dtype=torch.long)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = torch.tensor((*row.prefix, *row.targets[:-1]))
    hidden = reference.hidden(input_ids.to(reference.device))
    wanted = [hidden[i, predicting_slice(len(row.prefix), len(row.targets))] for i, row in enumerate(rows)]
    targets = torch.tensor([t for row in rows for t in row.targets], device=hidden.device)
    return chosen_log_probs(torch.cat(wanted), reference.head, targets, weight=reference.head_weight)
