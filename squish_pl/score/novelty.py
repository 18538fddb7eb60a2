"""Which tokens of a document a summary has copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
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
