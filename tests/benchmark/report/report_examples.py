"""Made-up findings for the page: small ones with chosen figures, large ones, and hostile ones."""

from __future__ import annotations

import base64
import json
import math
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from squish_pl.benchmark.findings import Findings, ShownDocument, ShownSummary, Usage
from squish_pl.benchmark.leaderboard import Leaderboard, Standing, combined_name
from squish_pl.benchmark.published import PublishedScore
from squish_pl.benchmark.scores import Score, scores_of
from squish_pl.score.bootstrap import Estimate
from squish_pl.score.measures import Positive, Support

CONTENDERS = ("small model", "large model", "opening")
BUDGETS = ("5%", "10%")
REFERENCES = ("first reference", "second reference")
NOTHING = Estimate(math.nan, math.nan, math.nan)
HOSTILE = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror=window.hacked=1>',
    "</script><!--",
    "{{7*7}}",
    "a\ud800b\x00c\x1b",
    "😀 café\u0301",
    "\u202eשלום",
)


def standing(
    contender: str, rank: int, budget: str = "5%", reference: str = REFERENCES[0], **changes: object
) -> Standing:
    """A line of the leaderboard whose figures follow from its rank."""
    figures: dict[str, object] = {
        "is_baseline": contender.startswith("opening"),
        "scores": {
            "squish": Estimate(0.1 / rank, 0.09 / rank, 0.11 / rank),
            "novel": Estimate(0.02 - 0.01 * rank, 0.015 - 0.01 * rank, 0.025 - 0.01 * rank),
        },
        "ahead": Estimate(0.0123, 0.001, 0.02),
        "resolved": True,
        "documents": 20,
        "coverage": 1.0,
        "failed": 0,
        "unparsable": 0.0,
        "over_budget": 0.25,
        "length_used": 0.98,
        "copied": 0.4,
    }
    return Standing(budget=budget, reference=reference, rank=rank, contender=contender, **{**figures, **changes})  # type: ignore[arg-type]


def board(contenders: Sequence[str] = CONTENDERS, references: Sequence[str] = REFERENCES) -> Leaderboard:
    """A leaderboard whose last contender has no lead."""
    views = [*references, combined_name("mean")] if len(references) > 1 else references
    standings = [
        standing(
            name, rank, budget, reference, **({"ahead": None, "resolved": None} if rank == len(contenders) else {})
        )
        for budget in BUDGETS
        for reference in views
        for rank, name in enumerate(contenders, 1)
    ]
    return Leaderboard(standings, "squish", False, ["A note on the board."])


def document(
    number: int = 0,
    reference: str = REFERENCES[0],
    contenders: Sequence[str] = CONTENDERS,
    budgets: Sequence[str] = BUDGETS,
    words: int = 24,
    strange: str = "",
) -> ShownDocument:
    """A document of words, one span each, eight a sentence; the last contender's summaries are over the budget.

    The first contender's have two samples; of the second's every fourth span is copied.
    """
    lot = random.Random(f"{number} {reference}".encode("utf-8", "surrogatepass"))
    spans: list[tuple[int, int]] = []
    sentences: list[tuple[int, int]] = []
    text, begin = "", 0
    for place in range(words):
        ends = place % 8 == 7 or place == words - 1
        piece = f"{strange}word{number}x{place}" + (".\n\n" if ends else " ")
        spans.append((len(text), len(text) + len(piece)))
        text += piece
        if ends:
            sentences.append((begin, len(text)))
            begin = len(text)
    summaries = []
    for order, contender in enumerate(contenders):
        for budget in budgets:
            for sample in range(2 if order == 0 else 1):
                written = f"{contender} at {budget}, sample {sample} {strange}"
                if order and order == len(contenders) - 1:
                    summaries.append(
                        ShownSummary(
                            contender,
                            budget,
                            sample,
                            written,
                            "over the budget",
                            {"squish": 0.0, "novel": 0.0},
                            1.5,
                            0.9,
                        )
                    )
                    continue
                saved = [lot.gauss(0.2, 1.0) if lot.random() < 0.8 else 0.0 for _ in spans]
                copied = [order == 1 and place % 4 == 0 for place in range(words)]
                scores = {"squish": sum(saved) / 1234.5, "novel": lot.gauss(0.01, 0.01)}
                summaries.append(ShownSummary(contender, budget, sample, written, "", scores, 0.97, 0.3, saved, copied))
    title = f"Document {number + 1} {strange}".strip()
    return ShownDocument(title, text, reference, 1234.5, spans, sentences, summaries)


def findings(
    documents: int = 3,
    contenders: Sequence[str] = CONTENDERS,
    references: Sequence[str] = REFERENCES,
    words: int = 24,
    strange: str = "",
) -> Findings:
    """Findings; `strange` goes into every text of them."""
    names = [name + strange for name in contenders]

    def shown() -> Iterator[ShownDocument]:
        for reference in references:
            for number in range(documents):
                yield document(number, reference + strange, names, words=words, strange=strange)

    made = board(names, [reference + strange for reference in references])
    made.notes.append(f"Another note {strange}")
    return Findings(
        title=f"A title {strange}",
        facts={"documents": "3 of news.jsonl", f"a fact {strange}": f"its text {strange}"},
        board=made,
        budgets=BUDGETS,
        references=[reference + strange for reference in references],
        usage=[Usage(names[0], 6, 2, 12345, 678, 0.0312, 75.4, [(f"a reason {strange}", 2)])],
        published=[
            PublishedScore(f"Model {strange}", "reasoning", "5%", 0.024),
            PublishedScore(f"Model {strange}", "reasoning", "10%", 0.042),
            PublishedScore("Other", "instruct", "10%", 0.016),
        ],
        documents=shown,
    )


MEASURES = scores_of([Positive(), Support()])[2:]


def with_measures(of: Findings, measures: Sequence[Score] = MEASURES) -> Findings:
    """The same with measures: each is 0.05 higher than the one before it, and below zero where it has none."""

    def value(place: int, score: Score) -> float:
        return 0.1 + 0.05 * place if score.has_zero else -2.0 - 0.05 * place

    values = {score.key: value(place, score) for place, score in enumerate(measures)}
    estimates = {key: Estimate(value, value - 0.01, value + 0.01) for key, value in values.items()}
    standings = [replace(standing, scores={**standing.scores, **estimates}) for standing in of.board.standings]

    def shown() -> Iterator[ShownDocument]:
        for document in of.documents():
            summaries = [replace(s, scores={**s.scores, **values}) for s in document.summaries]
            yield replace(document, summaries=summaries)

    board = replace(of.board, standings=standings, scores=(*of.board.scores, *measures))
    return replace(of, board=board, documents=shown)


def unpacked(block: str) -> dict[str, Any]:
    """A document as the page's script unpacks it."""
    data = json.loads(zlib.decompress(base64.b64decode(block)))
    assert isinstance(data, dict)
    return data
