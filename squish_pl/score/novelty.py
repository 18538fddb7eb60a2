"""Which tokens of a document a summary has copied."""

from __future__ import annotations

from collections.abc import Sequence

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
