"""How a summary and its document are framed for the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from squish_pl.lm.tokens import encode, start_token_id

SUMMARY_FIELD, DOCUMENT_FIELD = "{summary}", "{document}"


@dataclass(frozen=True)
class ScoreTemplate:
    """The frame that stands in front of the document, and the one in front of the summary.

    The reference reads `[start token] [frame with the summary] [document]`, or `[start token] [document]` for the
    document alone. Nothing stands behind the document.

    Where a measure asks how likely the summary is (`Evidence.support`), it also reads `[start token] [support frame
    with the document] [summary]`, and `[start token] [summary]` for the summary alone.

    Attributes:
        frame: Text with the field {summary} in it once; the document's tokens follow it directly.
        start_token: Text of the token both sums start from; by default the tokenizer's beginning token, or its
            end-of-text token where it has none.
        support_frame: Text with the field {document} in it once; the summary's tokens follow it directly. It does not
            change the score.
    """

    frame: str = "A summary of the article that follows:\n{summary}\n\nThe article:\n"
    start_token: str | None = None
    # not shown: scores are kept under how a template looks, and it takes no part in them
    support_frame: str = field(
        default="The article:\n{document}\n\nA summary of the article:\n",
        repr=False,
    )

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        frames = (("frame", self.frame, SUMMARY_FIELD), ("support_frame", self.support_frame, DOCUMENT_FIELD))
        return [
            f"template.{name} must hold {held} exactly once, but is {frame!r}"
            for name, frame, held in frames
            if frame.count(held) != 1
        ]

    def render(self, summary: str) -> str:
        """The frame with a summary in it."""
        return self.frame.replace(SUMMARY_FIELD, summary)

    def tidied(self, summary: str) -> str:
        """A summary as it is counted and framed: without white space around it."""
        return summary.strip()

    def start_id(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """The token both sums start from.

        Raises:
            ModelError: There is no such token.
        """
        return start_token_id(tokenizer, self.start_token)

    def frame_ids(self, tokenizer: PreTrainedTokenizerBase, summary: str) -> list[int]:
        """Ids that stand between the start token and the document, the summary's among them."""
        return encode(tokenizer, self.render(summary))

    def targets(self, tokenizer: PreTrainedTokenizerBase, document: Sequence[int], framed: bool) -> tuple[int, ...]:
        """Ids whose information is measured for a document's T, behind the frame or alone; see `counted`."""
        return tuple(document)

    def counted(self, nats: Tensor, framed: bool) -> Tensor:
        """[T] nats that count, by document token, of those that the targets were measured to have."""
        return nats

    def render_support(self, document: str) -> str:
        """The support frame with a document in it."""
        return self.support_frame.replace(DOCUMENT_FIELD, document)
