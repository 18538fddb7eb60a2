"""Made-up findings to draw: realistic ones, and small ones with chosen figures."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from squish_pl.benchmark.findings import Findings, ShownDocument, ShownSummary, Usage
from squish_pl.benchmark.leaderboard import Leaderboard, Row, Standing, leaderboard
from squish_pl.benchmark.published import published_scores
from squish_pl.benchmark.records import Answer, Outcome, ScoreRecord, Task
from squish_pl.score.bootstrap import Estimate
from squish_pl.types import Document

REFERENCE = "SmolLM2-135M"
BUDGETS = ("1%", "2%", "5%", "10%", "20%")
# at 10 %: SQUISH, the share of it that is novel, the share copied
_CONTENDERS = {
    "smollm2-360m, adapter best": (0.072, 0.55, 0.35),
    "Qwen/Qwen3-1.7B-Base": (0.049, 0.75, 0.12),
    "opening": (0.107, -0.04, 1.0),
    "opening, 70 %": (0.079, -0.03, 1.0),
    "best sentences": (0.098, 0.10, 0.99),
    "random sentences": (0.090, 0.12, 0.98),
    "highlights": (0.051, 0.68, 0.16),
}
_MODELS = 2  # the first of them
_SCALES = dict(zip(BUDGETS, (0.16, 0.28, 0.6, 1.0, 1.7), strict=True))

_TEXT = """\
The harbour council of Elsmouth voted on Tuesday night to close the old ferry terminal, ending eleven months \
of argument over a building that many residents call the town's front door. Seven of the nine members backed \
the plan.

"Nobody in this room wanted to be the one to turn off the lights," said Maren Aldous, who chairs the council. \
"But the roof alone would cost us more than the ferry has earned in a decade, and the company has told us \
plainly that it will not be coming back."

The last crossing to Sele Island left the terminal in October, carrying fourteen passengers, two bicycles and \
a crate of seed potatoes. Since then the island's 212 people have relied on a fishing cooperative, which runs \
a smaller boat from the north quay three times a week, weather permitting.

Under the plan the terminal's stone hall will be kept and offered to the maritime museum, while the steel \
waiting rooms added in 1974 are to be pulled down before the summer. Work is expected to cost 3.4 million \
crowns, a third of it from the region. Aldous said that she hoped the first visitors would walk through the \
hall by the end of next year.

Not everyone was persuaded. Outside the town hall some sixty people stood in the rain with lanterns, and a \
petition with 4,100 names was handed to the clerk. "They have counted everything except what it means to us," \
said Tobias Wren, whose family sold tickets there for three generations. The two members who voted against \
asked for a public hearing, which the council will consider at its next meeting in March.
"""


@cache
def board(
    names: Sequence[str] = tuple(_CONTENDERS), documents: int = 40, budgets: Sequence[str] = BUDGETS, seed: int = 0
) -> Leaderboard:
    """A leaderboard of made-up rows; names beyond the seven are models like the second."""
    lot = random.Random(seed)
    rows = []
    for number in range(documents):
        document = Document(f"document {number}")
        ease = lot.gauss(1.0, 0.3)
        for place, name in enumerate(names):
            score, novel, copied = _CONTENDERS.get(name, (0.03 + 0.004 * place, 0.7, 0.2))
            for budget in budgets:
                scale = _SCALES[budget]
                value = score * scale * ease + lot.gauss(0, 0.015 * scale)
                record = ScoreRecord(
                    score=value,
                    novel_score=value * novel + lot.gauss(0, 0.004 * scale),
                    within_budget=True,
                    length_used=0.95,
                    copied=copied,
                    information=1000.0,
                )
                answer = Answer(outcome=Outcome.WRITTEN, summary="...")
                is_baseline = name in list(_CONTENDERS)[_MODELS:]
                rows.append(Row(name, Task(document, budget), answer, {REFERENCE: record}, is_baseline))
    return leaderboard(rows, [REFERENCE])


def document(
    text: str = _TEXT, title: str = "news-017: The harbour council of Elsmouth voted", seed: int = 0
) -> ShownDocument:
    """A document with two measured summaries of it, and one that is over its budget."""
    lot = random.Random(seed)
    spans = [match.span() for match in re.finditer(r"\s*\w+|\s*[^\w\s]|\s+", text)]
    opening = text[: len(text) // 10]
    said = "Elsmouth's harbour council votes 7-2 to close its ferry terminal; stone hall to be a museum, 4,100 object."
    words = set(re.findall(r"\w{4,}", said))

    def summary(contender: str, text_of_it: str, is_copy: bool) -> ShownSummary:
        copied = [is_copy and end <= len(opening) for _, end in spans]
        saved = [
            lot.uniform(1, 7)
            if copies
            else lot.gauss(0.15, 0.35) + (lot.uniform(1, 4) if text[start:end].strip() in words else 0)
            for copies, (start, end) in zip(copied, spans, strict=True)
        ]
        return ShownSummary(
            contender,
            "10%",
            0,
            text_of_it,
            "",
            {"squish": sum(saved) / 900, "novel": 0.01},
            0.98,
            float(is_copy),
            saved,
            copied,
        )

    shown = [
        summary("opening", opening, True),
        summary("smollm2-360m, adapter best", said, False),
        ShownSummary("Qwen/Qwen3-1.7B-Base", "10%", 0, said * 3, "over the budget"),
    ]
    return ShownDocument(title, text, REFERENCE, 900.0, spans, [(0, len(text))], shown)


def findings(of: Leaderboard | None = None, published: bool = True) -> Findings:
    """Seven contenders at five budgets, and two documents."""
    of = of or board()

    def documents() -> Iterator[ShownDocument]:
        yield document()
        yield document(title="news-018: another", seed=1)

    usage = [
        Usage(name, 200, 0, 90_000, 7_000, 0.12, 340.0) for name in dict.fromkeys(s.contender for s in of.standings)
    ]
    return Findings(
        title="News at five budgets",
        facts={"documents": "40 of news/*.json.gz", "reference": REFERENCE, "budgets": ", ".join(BUDGETS)},
        board=of,
        budgets=list(dict.fromkeys(standing.budget for standing in of.standings)),
        references=[REFERENCE],
        usage=usage,
        published=published_scores() if published else (),
        documents=documents,
    )


def standing(contender: str, rank: int, score: float, **more: object) -> Standing:
    """A standing at 10 %: an interval of 0.01 on both sides, SQUISH-novel half as high, half of it copied."""
    of = Standing(
        budget="10%",
        reference=REFERENCE,
        rank=rank,
        contender=contender,
        is_baseline=False,
        scores={
            "squish": Estimate(score, score - 0.01, score + 0.01),
            "novel": Estimate(score / 2, score / 2 - 0.01, score / 2 + 0.01),
        },
        ahead=None,
        resolved=None,
        documents=20,
        coverage=1.0,
        failed=0,
        unparsable=0.0,
        over_budget=0.0,
        length_used=0.9,
        copied=0.5,
    )
    return replace(of, **more)  # type: ignore[arg-type]


def small(*standings: Standing) -> Findings:
    """Findings of chosen standings and of no documents."""
    return Findings("Small", {}, Leaderboard(list(standings), "squish", False, []), ["10%"], [REFERENCE], [])
