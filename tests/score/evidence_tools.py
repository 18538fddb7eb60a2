"""Evidence made up by hand, and the slow way to the summaries' own likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from score_brute_force import BEGIN, END, byte_ids, slow_information
from torch import Tensor
from transformers import PreTrainedModel

from squish_pl.score.evidence import Evidence

SUPPORT_FRAME = "The article:\n{document}\n\nA summary of the article:\n"


def made_up(
    information: Sequence[float],
    saved: Sequence[Sequence[float]],
    document: Sequence[int] = (),
    summaries: Sequence[Sequence[int]] = (),
    within: Sequence[bool] = (),
    support: Sequence[Sequence[float]] | None = None,
    alone: Sequence[Sequence[float]] | None = None,
    ending: Sequence[float] | None = None,
) -> Evidence:
    """Evidence of plain numbers; by default no token is copied and every summary is within its budget."""
    size, length = len(saved), len(information)
    return Evidence(
        tuple(document or range(length)),
        torch.tensor(information, dtype=torch.float64),
        torch.tensor(saved, dtype=torch.float64).reshape(size, length),
        tuple(tuple(ids) for ids in (summaries or [[1000 + i] for i in range(size)])),
        torch.tensor(within or [True] * size, dtype=torch.bool),
        None if support is None else tuple(torch.tensor(row, dtype=torch.float64) for row in support),
        None if alone is None else tuple(torch.tensor(row, dtype=torch.float64) for row in alone),
        ending=None if ending is None else torch.tensor(ending, dtype=torch.float64),
    )


def slow_support(
    model: PreTrainedModel, document: str | None, summary: str, frame: str = SUPPORT_FRAME, start: int = BEGIN
) -> Tensor:
    """[S] ln p of each token of the stripped summary, behind the framed document or behind the start token alone."""
    before = "" if document is None else document.join(frame.split("{document}"))
    return -slow_information(model, [start, *byte_ids(before)], byte_ids(summary.strip()))


def slow_ending(model: PreTrainedModel, document: str, summary: str, frame: str = SUPPORT_FRAME) -> Tensor:
    """ln p that a line break or a control token comes next."""
    ids = [BEGIN, *byte_ids(document.join(frame.split("{document}"))), *byte_ids(summary.strip())]
    ends = [*byte_ids("\n"), BEGIN, END]
    return torch.stack([-slow_information(model, ids, [end])[0] for end in ends]).logsumexp(0)
