"""Which tokens of a document a summary has copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def copied_tokens(document_ids: Sequence[int], summary_ids: Sequence[int], n: int = 4) -> Tensor:
    """Marks the document tokens that lie in a token n-gram shared with the summary.

    Args:
        document_ids: T token ids.
        summary_ids: Token ids of the summary alone, without its frame.
        n: Length of the n-grams. A text shorter than n shares none.

    Returns:
        [T] bool, true on copied tokens.
    """
    if n < 1:
        raise ValueError(f"expected n-grams of at least one token, but got n={n}")
    document, summary = tuple(document_ids), tuple(summary_ids)
    in_summary = {summary[i : i + n] for i in range(len(summary) - n + 1)}
    copied = torch.zeros(len(document), dtype=torch.bool)
    for i in range(len(document) - n + 1):
        if document[i : i + n] in in_summary:
            copied[i : i + n] = True
    return copied


def copied_share(document_ids: Sequence[int], summary_ids: Sequence[int], n: int = 4) -> float:
    """The share of a summary's tokens that lie in a token n-gram of the document; 0 for a summary without tokens."""
    copied = copied_tokens(summary_ids, document_ids, n)
    return float(copied.double().mean()) if len(copied) else 0.0


def longest_copies(document_ids: Sequence[int], summary_ids: Sequence[int]) -> Tensor:
    """How long the longest run of tokens is that covers a document token and stands in the summary too.

    Args:
        document_ids: T token ids.
        summary_ids: S token ids of the summary alone, without its frame.

    Returns:
        [T] int64; 0 for a token that is not in the summary at all. `copied_tokens(..., n)` marks those of at least n.
    """
    document, summary = np.asarray(document_ids, dtype=np.int64), np.asarray(summary_ids, dtype=np.int64)
    longest = np.zeros(len(document), dtype=np.int64)
    # run[j]: tokens that end here and at the summary's token j alike
    run = np.zeros(len(summary), dtype=np.int64)
    for i, token in enumerate(document):
        run = np.where(summary == token, np.concatenate(([0], run[:-1])) + 1, 0)
        length = int(run.max(initial=0))
        covered = longest[i + 1 - length : i + 1]
        np.maximum(covered, length, out=covered)
    return torch.from_numpy(longest)


def aligned_copies(document_ids: Sequence[int], summary_ids: Sequence[int], cost: float = 0.5) -> Tensor:
    """How much of the summary lines up with the document around each of its tokens: copies with changes in them.

    The best local alignment (Smith and Waterman, 1981) through each document token: a token that both have counts 1,
    one that was changed, left out or put in costs `cost`. A verbatim run is worth its length; one with every third
    word swapped still most of it, where `longest_copies` finds pieces of two.

    Args:
        document_ids: T token ids.
        summary_ids: S token ids of the summary alone, without its frame.
        cost: Of a change, above 0.

    Returns:
        [T] float64, at least 0; 0 for tokens outside every alignment. A changed token between copied ones is inside.
    """
    document, summary = np.asarray(document_ids, dtype=np.int64), np.asarray(summary_ids, dtype=np.int64)
    if not len(document) or not len(summary):
        return torch.zeros(len(document), dtype=torch.float64)
    own = np.where(document[:, None] == summary, 1.0, -cost)
    before = _best_before(own, cost)
    behind = _best_before(own[::-1, ::-1], cost)[::-1, ::-1]
    inside = (own > 0) | ((before > 0) & (behind > 0))
    return torch.from_numpy(np.where(inside, (before + own + behind).clip(min=0), 0.0).max(axis=1))


def _best_before(own: NDArray[np.float64], cost: float) -> NDArray[np.float64]:
    """[T, S] what each pair of tokens is worth -> [T, S] the best alignment that ends right before the pair."""
    tokens, width = own.shape
    before = np.zeros((tokens, width))
    best = np.zeros(width + 1)  # of alignments that end at the document token before and each summary token
    slope = cost * np.arange(width + 1)
    for i in range(tokens):
        before[i] = best[:-1]
        ending = np.maximum(np.concatenate(([0.0], best[:-1] + own[i])), best - cost).clip(min=0)
        # tokens put in: from the best cell to the left, at their cost
        best = np.maximum.accumulate(ending + slope) - slope
    return before


def copied_nats(
    document_ids: Sequence[int],
    information: Tensor,
    summary_ids: Sequence[int],
    share: float = 0.5,
    sharpness: float = 2.0,
    longest: int = 6,
) -> Tensor:
    """What a reader who knows nothing but how to copy would save on each document token, nats.

    He expects the document's next token as the reference does without the summary, with weight 1 - share, or else one
    of the summary's, with weight share. Which one: after k tokens that both have in a row, the summary's next token is
    exp(sharpness * min(k, longest)) times as likely as one without. (An induction head, or a pointer network's copy
    distribution, written down: See et al., 2017.)

        c_t = ln((1 - share) p_t + share q_t) - ln p_t, at least 0

    Args:
        document_ids: T token ids.
        information: [T] nats of each token without the summary, -ln p_t.
        summary_ids: S token ids of the summary alone, without its frame.
        share: Between 0 and 1, both left out.
        sharpness: Nats of preference for each token of context.
        longest: Context of more tokens than these counts as so many.

    Returns:
        [T] float64.
    """
    document, summary = np.asarray(document_ids, dtype=np.int64), np.asarray(summary_ids, dtype=np.int64)
    if not len(summary):
        return torch.zeros(len(document), dtype=torch.float64)
    copied = np.zeros(len(document))
    context = np.zeros(len(summary))  # tokens in a row, up to the one before, that stand before each summary token too
    for i, token in enumerate(document):
        weights = np.exp(sharpness * np.minimum(context, longest))
        copied[i] = weights[summary == token].sum() / weights.sum()
        run = np.where(summary == token, context + 1, 0)
        context = np.concatenate(([0.0], run[:-1]))
    alone = (-information.double()).exp()
    nats = ((1 - share) * alone + share * torch.from_numpy(copied)).log() - alone.log()
    return nats.clamp_min(0)
