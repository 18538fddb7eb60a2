"""The original's protocol: what it sums, and how it frames a summary and its document.

    alone             {eos} d1 ... dn {eos}                                      I(d)     = d1 ... dn and the last {eos}
    behind a summary  {eos} {frame} {summary} {frame} d1 ... dn </document>{eos}  I(d | s) = d2 ... dn and the first
                                                                                            token of </document>

The two sums go over different tokens, so even a summary that says nothing saves something: what d1 takes. That is why
it is no more than a protocol here, for figures that can be laid beside the original's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.errors import ModelError
from squish_pl.lm.tokens import encode
from squish_pl.score.template import SUMMARY_FIELD, ScoreTemplate

_CLOSING = "</document>"


@dataclass(frozen=True)
class OriginalTemplate(ScoreTemplate):
    """The original's frame and sums.

    The frame's two parts, the summary and the document are tokenised each by itself, and white space around the
    summary stays. Nats of what stands behind a document count at its last token, and its first token has none behind a
    summary, so per-token figures add up to the score as they do elsewhere.
    """

    frame: str = (
        "The following is a summary of a document followed by the document itself. The summary is within a <summary> "
        "tag and the document is within a <document> tag.\n\n<summary>{summary}</summary>\n<document>"
    )

    def tidied(self, summary: str) -> str:
        """The summary as it is."""
        return summary

    def start_id(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """The end token, unless another one is named.

        Raises:
            ModelError: There is no such token.
        """
        return _end_id(tokenizer) if self.start_token is None else super().start_id(tokenizer)

    def frame_ids(self, tokenizer: PreTrainedTokenizerBase, summary: str) -> list[int]:
        """Ids between the start token and the document, each part's own."""
        before, after = self.frame.split(SUMMARY_FIELD)
        return [id for part in (before, summary, after) for id in encode(tokenizer, part)]

    def targets(self, tokenizer: PreTrainedTokenizerBase, document: Sequence[int], framed: bool) -> tuple[int, ...]:
        """The document's ids, and behind them the first of the closing tag's, or alone the end token."""
        return (*document, encode(tokenizer, _CLOSING)[0] if framed else _end_id(tokenizer))

    def counted(self, nats: Tensor, framed: bool) -> Tensor:
        """[T] of [T + 1]: the last one counts at the document's last token; behind a frame its first counts 0."""
        kept = nats[:-1].clone()
        if framed:
            kept[0] = 0
        kept[-1] += nats[-1]
        return kept


def _end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.eos_token_id is None:
        raise ModelError("the original's protocol ends a document with the end token, but the tokenizer has none")
    return int(tokenizer.eos_token_id)
