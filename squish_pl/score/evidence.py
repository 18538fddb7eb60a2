"""What passes through the reference tell about a document and its summaries: all that measures are made of."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from squish_pl.types import joined

LogProbs = tuple[Tensor, ...]  #: for each of G summaries [S] float64, nats
Need = Literal[
    "support", "support_alone", "elsewhere", "sentences"
]  #: what `Evidence` holds only where it was asked for
NEEDS: tuple[Need, ...] = get_args(Need)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A document and its G summaries under one reference. All tensors lie on the CPU.

    S is a summary's number of tokens, another one for each.

    Attributes:
        document_ids: T token ids of the document.
        information: [T] float64, nats of each document token alone.
        saved: [G, T] float64, nats that each summary saves on each document token. NaN where no forward pass was
            spent on an over-budget summary; 0 for a missing or empty one.
        summary_ids: For each summary its S token ids, without the frame; none for a missing or empty one.
        within_budget: [G] bool, whether the summary is there (not None) and no longer than the budget allows; an
            empty one is.
        support: For each summary [S] float64, ln p(token | document, earlier summary tokens), the document in the
            template's support frame; NaN for tokens that were not measured. None where it was not asked for.
        ending: [G] float64, ln p that the line ends behind each summary; comes with `support`. NaN where it was not
            measured.
        support_alone: `support` without a document: ln p(token | start token, earlier summary tokens).
        elsewhere: [G] float64, the share of another document's information that each summary saves; NaN where it was
            not measured, and 0 for a missing or empty one.
        sentences: [G] float64, of the nats that the document's sentences, each read by itself, save of themselves, the
            share that each summary saves of them (see `ShannonScore`); NaN and 0 as above.
    """

    document_ids: tuple[int, ...]
    information: Tensor
    saved: Tensor
    summary_ids: tuple[tuple[int, ...], ...]
    within_budget: Tensor
    support: LogProbs | None = None
    support_alone: LogProbs | None = None
    elsewhere: Tensor | None = None
    ending: Tensor | None = None
    sentences: Tensor | None = None

    @property
    def total(self) -> float:
        """Nats of the document alone, I(d)."""
        return float(self.information.sum())

    @property
    def size(self) -> int:
        """G, the number of summaries."""
        return len(self.summary_ids)


def pack(evidence: Evidence) -> bytes:
    """Evidence as bytes, exactly; see `unpack`."""
    arrays = {
        "document_ids": np.array(evidence.document_ids, dtype=np.int64),
        "information": evidence.information.numpy(),
        "saved": evidence.saved.numpy(),
        "summary_ids": np.array([i for ids in evidence.summary_ids for i in ids], dtype=np.int64),
        "lengths": np.array([len(ids) for ids in evidence.summary_ids], dtype=np.int64),
        "within_budget": evidence.within_budget.numpy(),
    }
    if evidence.support is not None:
        arrays["support"] = joined(evidence.support).numpy()
    if evidence.ending is not None:
        arrays["ending"] = evidence.ending.numpy()
    if evidence.support_alone is not None:
        arrays["support_alone"] = joined(evidence.support_alone).numpy()
    if evidence.elsewhere is not None:
        arrays["elsewhere"] = evidence.elsewhere.numpy()
    if evidence.sentences is not None:
        arrays["sentences"] = evidence.sentences.numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its stubs take the names for its own settings
    return buffer.getvalue()


def unpack(packed: bytes) -> Evidence:
    """Evidence that `pack` made bytes of; nothing in them is run.

    Raises:
        ValueError: They are damaged.
    """
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        lengths = arrays["lengths"].tolist()
        support, alone = (
            arrays[name].split(lengths) if name in arrays else None for name in ("support", "support_alone")
        )
        return Evidence(
            tuple(arrays["document_ids"].tolist()),
            arrays["information"],
            arrays["saved"],
            tuple(tuple(ids.tolist()) for ids in arrays["summary_ids"].split(lengths)),
            arrays["within_budget"],
            None if support is None else tuple(support),
            None if alone is None else tuple(alone),
            arrays.get("elsewhere"),
            arrays.get("ending"),
            arrays.get("sentences"),
        )
    except Exception as error:  # damaged archives fail in many ways
        raise ValueError(f"no evidence: {error}") from None
