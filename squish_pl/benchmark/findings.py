"""All that came of a run, ready to be shown: no model, no store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from squish_pl.benchmark.leaderboard import Leaderboard, Row
from squish_pl.benchmark.published import PublishedScore
from squish_pl.benchmark.resistance import ResistanceTable


@dataclass(frozen=True, slots=True)
class ShownSummary:
    """One summary of a document, and what it saves there under one reference.

    Attributes:
        contender: Who wrote it.
        budget: Its cap, as text.
        sample: 0, 1, ...
        text: The summary as it was scored; None where there is none.
        verdict: Empty for a summary that counts; else why not, for people ("over the budget", "failed: ...").
        scores: By their keys, in the run's order; one is missing where there is none.
        length_used: Its length by its budget; None without a score.
        copied: Share of its tokens that lie in an n-gram of the document; None without a score.
        saved: For each of the document's spans, nats saved; None where nothing was measured.
        copied_spans: For each of the document's spans, whether it lies in an n-gram shared with the summary; None
            where nothing was measured.
    """

    contender: str
    budget: str
    sample: int
    text: str | None
    verdict: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    length_used: float | None = None
    copied: float | None = None
    saved: Sequence[float] | None = None
    copied_spans: Sequence[bool] | None = None


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A document, taken apart as one reference reads it, with all its summaries.

    Attributes:
        title: For lists: its first words and its name or address.
        text: The text that was summarised.
        reference: The reference's name.
        information: Nats of the document alone.
        spans: Characters [start, end) of the document's tokens in order; they cover the text without overlapping
            (tokens that share a character are one span).
        sentences: Characters [start, end) of its sentences, in order.
        summaries: By contender in the leaderboard's order, then by budget, then by sample.
    """

    title: str
    text: str
    reference: str
    information: float
    spans: Sequence[tuple[int, int]]
    sentences: Sequence[tuple[int, int]]
    summaries: Sequence[ShownSummary]

    def sentence_savings(self, summary: ShownSummary) -> list[float]:
        """Nats saved in each sentence; a span belongs to the sentence it begins in, or to the one before it.

        Raises:
            ValueError: The summary was not measured.
        """
        if summary.saved is None:
            raise ValueError("expected a summary that was measured")
        savings = [0.0] * len(self.sentences)
        number = 0
        for (start, _), saved in zip(self.spans, summary.saved, strict=True):
            while number + 1 < len(self.sentences) and self.sentences[number + 1][0] <= start:
                number += 1
            if savings:
                savings[number] += saved
        return savings


@dataclass(frozen=True)
class Usage:
    """What a contender's answers took, where it says so.

    Attributes:
        contender: Its name.
        answers: Summaries and unparsable answers.
        failed: Tasks without an answer.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        cost: US dollars; None where unknown.
        seconds: From asking to answer, of all answers together.
        reasons: Of failures and unparsable answers, with how often each came, most frequent first.
    """

    contender: str
    answers: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    seconds: float
    reasons: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Findings:
    """Everything that is shown and written.

    Attributes:
        title: Above it all.
        facts: What was measured and how, label -> text, in order ("documents" -> "140 of news/*.json.gz").
        board: The leaderboard.
        budgets: In the order of the run, as text.
        references: Names of the references.
        usage: What the contenders' answers took, in the leaderboard's order.
        rows: One for each contender and task, with its scores.
        published: Values measured elsewhere, to be laid beside; may be empty.
        documents: Gives the documents to be looked at, one at a time: each is built when it is asked for, so that
            hundreds of them need no memory. With several references, all documents of the first, then of the second.
        resistance: How the scores stand against attacks; None without any.
    """

    title: str
    facts: dict[str, str]
    board: Leaderboard
    budgets: Sequence[str]
    references: Sequence[str]
    usage: Sequence[Usage]
    rows: Sequence[Row] = ()
    published: Sequence[PublishedScore] = ()
    documents: Callable[[], Iterator[ShownDocument]] = field(default=lambda: iter(()))
    resistance: ResistanceTable | None = None


def most_frequent(reasons: Sequence[tuple[str, int]], most: int = 20) -> tuple[Sequence[tuple[str, int]], int]:
    """As many of a usage's reasons as can be read, and how often the others came, all together."""
    return reasons[:most], sum(times for _, times in reasons[most:])
