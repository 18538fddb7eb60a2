"""`score`: the score of given summaries, without any training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from squish_pl.data.filters import read_documents
from squish_pl.data.sources import open_source
from squish_pl.errors import DataError, ModelError
from squish_pl.score import Budget, ScoreRequest, ScoreTemplate, SquishScorer
from squish_pl.score.baselines import lead
from squish_pl.score.bootstrap import bootstrap_interval
from squish_pl.tokens import whole_characters
from squish_pl.types import Document

_AT_A_TIME = 64  # summaries scored between two steps of the progress bar


class Asked(NamedTuple):
    """A summary (None: there is none) to be scored for a document under a budget."""

    document: Document
    summary: str | None
    budget: Budget


def score(
    documents: str,
    summaries: str,
    budget: str = "10%",
    base: str = "Qwen/Qwen3-1.7B-Base",
    gguf_file: str | None = None,
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto",
    device: str = "auto",
    template: ScoreTemplate = ScoreTemplate(),
    novel_ngram: int = 4,
    batch_tokens: int = 8192,
    output: str | None = None,
) -> None:
    """Scores given summaries and prints the means beside the copying baseline.

    Args:
        documents: Documents, as for training: a file, folder or glob.
        summaries: JSON lines with the field `summary` (null where there is none), in the documents' order; or each
            with the `url` or `id` of its document, as `predict` writes them.
        budget: Caps, separated by commas: "10%", "500 chars", "5% tokens", "64 tokens". A summary that names a
            `budget` of its own is scored under that one.
        base: Reference model: hub id, folder, or "package:NAME".
        gguf_file: Name of a GGUF file in that folder or package.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        device: "auto" takes a GPU where there is one.
        template: How summary and document are framed.
        novel_ngram: Token n-grams of this length count as copied.
        batch_tokens: Most tokens in one forward pass.
        output: JSON lines file for each summary's scores.

    Raises:
        DataError: Documents and summaries cannot be read or do not belong together.
        BudgetError: A budget cannot be understood.
        ModelError: The reference cannot be loaded.
    """
    budgets = [Budget.parse(text) for text in budget.split(",")]
    requests = pair(list(read_documents(open_source(documents))), read_summaries(summaries), budgets)
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device {where!r} cannot be used: {str(error).splitlines()[0]}") from None
    scorer = SquishScorer.from_pretrained(base, where, dtype, gguf_file, template, novel_ngram, batch_tokens)
    lines: list[dict[str, Any]] = []
    for first in track(range(0, len(requests), _AT_A_TIME), "Scoring", transient=True):
        lines += score_lines(scorer, requests[first : first + _AT_A_TIME])
    if output is not None:
        try:
            Path(output).expanduser().write_text(
                "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
            )
        except OSError as error:
            raise DataError(f"cannot write {output!r}: {error.strerror}") from None
    print_table(lines)


def read_summaries(path: str) -> list[dict[str, Any]]:
    """The records of a JSON lines file, each with a field `summary`.

    Raises:
        DataError: The file cannot be read, or a line is no such record; the message names it.
    """
    return [record for _, record in numbered_summaries(path, read_text(path))]


def read_text(path: str) -> str:
    """The text of a file of summaries.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"cannot read the summaries {path!r}: {reason}") from None


def numbered_summaries(path: str, text: str) -> list[tuple[int, dict[str, Any]]]:
    """The records of JSON lines with the numbers of their lines; the path is for messages.

    Raises:
        DataError: A line is no record with a field `summary`; the message names it.
    """
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("summary", 0), (str, type(None))):
            raise DataError(f'{path} line {number}: expected {{"summary": "text" or null, ...}}, but got {line[:60]!r}')
        records.append((number, record | {"summary": _whole(record.get("summary"))}))
    return records


def pair(documents: Sequence[Document], summaries: Sequence[dict[str, Any]], budgets: Sequence[Budget]) -> list[Asked]:
    """What to score: each summary under each budget.

    Summaries are matched to documents by `id` or `url` where every one names it, else by order.

    Raises:
        DataError: A summary's document is not there, or the numbers differ.
    """
    field = next((f for f in ("id", "url") if summaries and all(record.get(f) for record in summaries)), None)
    if field is not None:
        known: dict[str, Document] = {}
        for document in documents:
            key = getattr(document, field)
            if key in known and known[key].text != document.text:
                raise DataError(
                    f"two documents have the {field} {key!r}: leave {field} out and give one line for each in order"
                )
            known[key] = document
        missing = [record[field] for record in summaries if str(record[field]) not in known]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(summaries)} summaries have the {field} of no document, such as {missing[0]!r} "
                "(a document's id is the hash of its text)"
            )
        matched = [known[str(record[field])] for record in summaries]
    elif len(documents) == len(summaries):
        matched = list(documents)
    else:
        raise DataError(
            f"expected a summary for each of the {len(documents)} documents, but got {len(summaries)}; "
            "give each summary the id or url of its document, or one line for each document in order"
        )
    return [
        Asked(document, record["summary"], budget)
        for document, record in zip(matched, summaries, strict=True)
        for budget in ([Budget.parse(record["budget"])] if record.get("budget") else budgets)
    ]


def score_lines(scorer: SquishScorer, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """Scores of each summary, and of its document's opening cut to the same budget."""
    requests = [
        ScoreRequest(a.document, [a.summary, lead(a.document.text, a.budget, scorer.tokenizer)], a.budget)
        for a in asked
    ]
    return [
        {
            "id": a.document.id,
            "url": a.document.url,
            "budget": str(a.budget),
            "summary": a.summary,
            "within_budget": bool(scores.within_budget[0]),
            "squish": float(scores.score[0]),
            "novel": float(scores.novel_score[0]),
            "lead": float(scores.score[1]),
            "lead_novel": float(scores.novel_score[1]),
            "information": scores.information,
        }
        for a, scores in zip(asked, scorer.score_batch(requests), strict=True)
    ]


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Means and intervals by budget."""
    table = Table(title=f"{len(lines)} scores, mean [95 % bootstrap interval]", title_justify="left")
    for heading in ("budget", "score", "summaries", "copied opening"):
        table.add_column(heading, justify="left" if heading in ("budget", "score") else "right", no_wrap=True)
    for budget in dict.fromkeys(line["budget"] for line in lines):
        chosen = [line for line in lines if line["budget"] == budget]
        for name, key, baseline in (("SQUISH", "squish", "lead"), ("SQUISH-novel", "novel", "lead_novel")):
            table.add_row(budget, name, *(_cell([line[k] for line in chosen]) for k in (key, baseline)))
    console = Console()
    console.print(table)
    within = sum(line["within_budget"] for line in lines)
    console.print(f"within budget: {within} of {len(lines)}", highlight=False)


def _cell(values: list[float]) -> str:
    tensor = torch.tensor(values, dtype=torch.float64)
    low, high = bootstrap_interval(tensor)
    return f"{float(tensor.mean()):.4f} \\[{low:.4f}, {high:.4f}]"


def _whole(summary: str | None) -> str | None:
    return None if summary is None else whole_characters(summary)
