"""How a summary and its document are framed for the reference."""

from __future__ import annotations

from dataclasses import dataclass

SUMMARY_FIELD = "{summary}"


@dataclass(frozen=True)
class ScoreTemplate:
    """The frame that stands in front of the document.

    The reference reads `[start token] [frame with the summary] [document]`, or `[start token] [document]` for the
    document alone. Nothing stands behind the document.

    Attributes:
        frame: Text with the field {summary} in it once; the document's tokens follow it directly.
        start_token: Text of the token both sums start from; by default the tokenizer's beginning token, or its
            end-of-text token where it has none.
    """

    frame: str = "A summary of the article that follows:\n{summary}\n\nThe article:\n"
    start_token: str | None = None

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        if self.frame.count(SUMMARY_FIELD) != 1:
            return [f"template.frame must hold {SUMMARY_FIELD} exactly once, but is {self.frame!r}"]
        return []

    def render(self, summary: str) -> str:
        """The frame with a summary in it."""
        return self.frame.replace(SUMMARY_FIELD, summary)
