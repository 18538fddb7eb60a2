"""What the benchmark asks, gets and keeps."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field

from squish_pl.types import Document


@dataclass(frozen=True, slots=True)
class Task:
    """One summary to be written.

    Attributes:
        document: The document; contenders see its text, references too.
        budget: Cap on the summary's length, as text: "10%".
        sample: 0, 1, ...: summaries of the same document under the same budget.
    """

    document: Document
    budget: str
    sample: int = 0

    @property
    def document_hash(self) -> str:
        """Of the text, whatever the document is called."""
        return text_hash(self.document.text)


class Outcome(str, enum.Enum):
    """What came of a task."""

    WRITTEN = "written"  #: there is a summary, whatever it is worth
    UNPARSABLE = "unparsable"  #: an answer without a summary in it: scores 0
    FAILED = "failed"  #: no answer: never scored, asked again in the next run


@dataclass(frozen=True, slots=True)
class Answer:
    """A contender's answer to a task.

    Attributes:
        outcome: What came of it.
        summary: The summary; None unless written.
        complete: False where it was stopped for being longer than its budget, so what there is must not be cut to it.
        reason: Why it failed or could not be parsed, for people.
        prompt_tokens: Tokens the contender read, where it says so.
        completion_tokens: Tokens it wrote, those of its reasoning among them.
        cost: In US dollars, where it says so.
        seconds: From asking to answer.
    """

    outcome: Outcome
    summary: str | None = None
    complete: bool = True
    reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None


NOT_SCORED = "not scored: with its document it is too long for the reference"  #: of a written summary without scores


@dataclass(frozen=True, slots=True)
class ScoreRecord:
    """The scores of one written summary under one reference.

    Attributes:
        score: SQUISH; 0 over the budget.
        novel_score: SQUISH-novel.
        within_budget: Whether it counts.
        length_used: Its length by its budget; above 1 over the budget.
        copied: Share of its tokens that lie in an n-gram of the document.
        information: Nats of the document alone.
        measures: Of each measure that was asked for, by its name; NaN where it has no value.
    """

    score: float
    novel_score: float
    within_budget: bool
    length_used: float
    copied: float
    information: float
    measures: dict[str, float] = field(default_factory=dict)

    def value(self, score: str) -> float:
        """A score by its key: "squish", "novel", or a measure's name."""
        own = {"squish": self.score, "novel": self.novel_score}
        return own[score] if score in own else self.measures[score]


def text_hash(text: str) -> str:
    """A short hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]
