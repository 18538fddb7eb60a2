"""Documents as the page's script reads them: one packed block each, unpacked only when it is shown."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

from squish_pl.benchmark.findings import ShownDocument, ShownSummary
from squish_pl.benchmark.report.heat_map import shade_limit
from squish_pl.benchmark.report.page_text import printable

_UNITS_A_NAT = 100  # savings of spans are whole hundredths of a nat


def packed(document: ShownDocument) -> str:
    """A document with its summaries, see `document_data`: JSON, deflated (zlib), in base64."""
    text = json.dumps(document_data(document), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode()


def document_data(document: ShownDocument) -> dict[str, Any]:
    """A document with its summaries as plain values.

    Keys: text, information; `ends` (of the spans; each begins where the one before it ends) and
    `sentences`, both counted in code points; `limit`, the nats that get the full shade, the same for all
    summaries; `summaries` (see `_summary`). What is no finite number is null.
    """
    sentence_savings = [document.sentence_savings(s) if s.saved is not None else [] for s in document.summaries]
    return {
        "text": printable(document.text),
        "information": _finite(document.information),
        "ends": [end for _, end in document.spans],
        "sentences": [list(sentence) for sentence in document.sentences],
        "limit": shade_limit(document),
        "summaries": [_summary(s, savings) for s, savings in zip(document.summaries, sentence_savings, strict=True)],
    }


def _summary(summary: ShownSummary, sentence_savings: Sequence[float]) -> dict[str, Any]:
    """A summary with its figures at full precision; `spans` in hundredths of a nat, `copies` a 0 or 1 for each span."""
    figures = {
        "contender": printable(summary.contender),
        "budget": printable(summary.budget),
        "sample": summary.sample,
        "text": None if summary.text is None else printable(summary.text),
        "verdict": printable(summary.verdict),
        "scores": {printable(key): _finite(value) for key, value in summary.scores.items()},
        "length": _finite(summary.length_used),
        "copied": _finite(summary.copied),
        "saved": None,
        "spans": None,
        "copies": None,
        "by_sentence": [],
    }
    if summary.saved is None:
        return figures
    return figures | {
        "saved": _finite(math.fsum(summary.saved) if all(map(math.isfinite, summary.saved)) else None),
        "spans": [round(_UNITS_A_NAT * nats) if math.isfinite(nats) else None for nats in summary.saved],
        "copies": "".join("01"[bool(copied)] for copied in summary.copied_spans or ()),
        "by_sentence": [_finite(nats) for nats in sentence_savings],
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
