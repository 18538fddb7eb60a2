"""How a summary and its document are framed for the reference."""

from __future__ import annotations

from dataclasses import dataclass, field

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

    def render_support(self, document: str) -> str:
        """The support frame with a document in it."""
        return self.support_frame.replace(DOCUMENT_FIELD, document)
