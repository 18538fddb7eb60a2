"""From rows and stored savings to what is shown of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from squish_pl.benchmark.findings import ShownDocument, ShownSummary, Usage
from squish_pl.benchmark.leaderboard import Leaderboard, Row
from squish_pl.benchmark.records import NOT_SCORED, Outcome, ScoreRecord, text_hash
from squish_pl.benchmark.references import Reference
from squish_pl.benchmark.results import finite
from squish_pl.benchmark.scores import Score
from squish_pl.benchmark.sentences import sentence_spans
from squish_pl.benchmark.store import Store
from squish_pl.benchmark.token_spans import by_span, token_spans
from squish_pl.lm.tokens import encode
from squish_pl.score.novelty import copied_tokens
from squish_pl.types import Document

_TITLE_CHARACTERS = 60


def contenders_in_order(board: Leaderboard, rows: Sequence[Row]) -> list[str]:
    """Contenders by their first rank, then those that have none."""
    ranked = [standing.contender for standing in board.standings]  # the first budget's come first, by rank
    return list(dict.fromkeys([*ranked, *(row.contender for row in rows)]))


def usage(rows: Sequence[Row], order: Sequence[str]) -> list[Usage]:
    """What each contender's answers took."""
    found = []
    for name in order:
        own = [row for row in rows if row.contender == name]
        given = [row.answer for row in own if row.answer is not None]
        failed = sum(row.outcome is Outcome.FAILED for row in own)
        costs = [answer.cost for answer in given if answer.cost is not None]
        found.append(
            Usage(
                contender=name,
                answers=len(own) - failed,
                failed=failed,
                prompt_tokens=sum(answer.prompt_tokens or 0 for answer in given),
                completion_tokens=sum(answer.completion_tokens or 0 for answer in given),
                cost=sum(costs) if costs else None,
                seconds=sum(answer.seconds or 0.0 for answer in given),
                reasons=Counter(answer.reason for answer in given if answer.reason).most_common(),
            )
        )
    return found


def shown_documents(
    documents: Sequence[Document],
    rows: Sequence[Row],
    order: Sequence[str],
    references: Mapping[Reference, str],
    novel_ngram: int,
    store: Store,
    scores: Sequence[Score],
) -> Iterator[ShownDocument]:
    """The documents to be looked at, one at a time, those of the first reference first.

    Args:
        documents: Those whose savings were kept.
        rows: With their scores.
        order: Of the contenders.
        references: All of them, each with its `identity`.
        novel_ngram: Token n-grams of this length count as copied.
        store: With the savings.
        scores: The run's.
    """
    place = {name: number for number, name in enumerate(order)}
    budgets = list(dict.fromkeys(row.task.budget for row in rows))
    rows_of: dict[str, list[Row]] = {}
    for row in rows:
        rows_of.setdefault(row.task.document_hash, []).append(row)
    for reference, identity in references.items():
        for document in documents:
            hashed = text_hash(document.text)
            own = sorted(
                rows_of.get(hashed, []),
                key=lambda row: (place[row.contender], budgets.index(row.task.budget), row.task.sample),
            )
            yield _shown(document, own, reference, store.savings(identity, hashed), novel_ngram, scores)


def _shown(
    document: Document,
    rows: Sequence[Row],
    reference: Reference,
    savings: Mapping[str, Tensor],
    novel_ngram: int,
    scores: Sequence[Score],
) -> ShownDocument:
    tokenizer = reference.tokenizer
    spans, span_of = token_spans(tokenizer, document.text)
    document_ids = encode(tokenizer, document.text)
    summaries = []
    for row in rows:
        text, known = row.text, row.scores.get(reference.title)
        saved = savings.get(text_hash(text)) if text is not None and known and known.within_budget else None
        copied = None
        if saved is not None and text is not None:
            tokens = copied_tokens(document_ids, encode(tokenizer, text), novel_ngram)
            copied = [count > 0 for count in by_span(tokens.tolist(), span_of, len(spans))]
        summaries.append(
            ShownSummary(
                contender=row.contender,
                budget=row.task.budget,
                sample=row.task.sample,
                text=text,
                verdict=_verdict(row, known),
                scores=_values(row, known, scores),
                length_used=finite(known.length_used) if known else None,
                copied=known.copied if known else None,
                saved=None if saved is None else by_span(saved.tolist(), span_of, len(spans)),
                copied_spans=copied,
            )
        )
    information = (row.scores[reference.title].information for row in rows if reference.title in row.scores)
    return ShownDocument(
        title=_title(document),
        text=document.text,
        reference=reference.title,
        information=next(information, math.nan),
        spans=spans,
        sentences=sentence_spans(document.text) or [(0, len(document.text))],
        summaries=summaries,
    )


def _values(row: Row, known: ScoreRecord | None, scores: Sequence[Score]) -> dict[str, float]:
    if known is None:
        values = {score.key: score.nothing for score in scores if row.outcome is Outcome.UNPARSABLE}
    else:
        values = {score.key: known.value(score.key) for score in scores}
    return {key: value for key, value in values.items() if not math.isnan(value)}


def _verdict(row: Row, scores: ScoreRecord | None) -> str:
    """Why a summary does not count; empty where it does."""
    if row.answer is None:
        return "not asked yet"
    if row.answer.outcome is Outcome.FAILED:
        return f"failed: {row.answer.reason}"
    if row.answer.outcome is Outcome.UNPARSABLE:
        return f"no summary in the answer: {row.answer.reason}"
    if scores is None:
        return NOT_SCORED
    if not scores.within_budget and not math.isfinite(scores.length_used):
        return "over the budget, which allows nothing"
    if not scores.within_budget:
        more = "at least " if not row.answer.complete else ""
        return f"over the budget: {more}{scores.length_used:.0%} of it"
    return ""


def _title(document: Document) -> str:
    """The first words, by which a person knows it, then its name."""
    words = " ".join(document.text[: 4 * _TITLE_CHARACTERS].split())
    opening = words if len(words) <= _TITLE_CHARACTERS else words[: _TITLE_CHARACTERS - 1] + "…"
    return " · ".join(filter(None, (opening, document.name or document.url)))
