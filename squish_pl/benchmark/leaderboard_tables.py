"""A leaderboard for people and programs: rich tables, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import fields, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from squish_pl.benchmark.findings import Usage, most_frequent
from squish_pl.benchmark.leaderboard import Leaderboard, Standing
from squish_pl.benchmark.published import MARK, SOURCE, PublishedScore
from squish_pl.benchmark.scores import SCORES, Score
from squish_pl.markdown import escape
from squish_pl.score.bootstrap import Estimate
from squish_pl.score.measures.base import score_title

_NAME = "contender"
_LEAST_WIDTH = 120  # a narrower terminal wraps lines, where rich would leave figures out
_SCORE_WIDTH = 17  # of an interval, and what stands beside it
_UNKNOWN = Estimate(math.nan, math.nan, math.nan)
_REASONS = 3  # of failures, most frequent first
_TEXT_COLUMNS = (_NAME, "next is behind")


def print_leaderboard(board: Leaderboard) -> None:
    """Prints a table for each budget and reference, baselines dimmed, and the notes."""
    console = wide_console(board.scores)
    scores = [score.title for score in board.scores]
    for title, standings in _groups(board):
        table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for heading in _headings(scores):
            justify: JustifyMethod = "left" if heading in _TEXT_COLUMNS else "right"
            lines = textwrap.wrap(heading, _SCORE_WIDTH) if heading in scores else heading.rsplit(" ", 1)
            table.add_column(Text("\n".join(lines)), justify=justify, no_wrap=heading != _NAME, overflow="fold")
        for standing in standings:
            table.add_row(*map(Text, _cells(standing, gap="\n")), style="dim" if standing.is_baseline else None)
        console.print(table)
    for note in board.notes:
        console.print(note, markup=False, highlight=False)


def print_usage(usages: Sequence[Usage]) -> None:
    """Prints what the answers took, where anything is known, and why some are missing."""
    console = wide_console()
    told = [usage for usage in usages if usage.completion_tokens or usage.cost is not None]
    if told:
        table = Table(title="What the answers took", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in (_NAME, "answers", "tokens read", "tokens written", "US dollars", "seconds"):
            table.add_column(heading, justify="left" if heading == _NAME else "right")
        for usage in told:
            tokens = f"{usage.prompt_tokens:,}", f"{usage.completion_tokens:,}"
            cost = "–" if usage.cost is None else f"{usage.cost:.4f}"
            table.add_row(Text(usage.contender), f"{usage.answers:,}", *tokens, cost, f"{usage.seconds:.1f}")
        console.print(table)
    for usage in usages:
        if usage.failed:
            console.print(
                f"{usage.contender}: {usage.failed} of {usage.failed + usage.answers} tasks failed and are left out of "
                "the means",
                style="bold",
                markup=False,
            )
        shown, more = most_frequent(usage.reasons, _REASONS)
        for reason, count in shown:
            console.print(f"  {usage.contender}: {count} x {reason}", markup=False, highlight=False)
        if more:
            console.print(f"  {usage.contender}: and {more} more", markup=False, highlight=False)


def print_published(scores: Sequence[PublishedScore], budgets: Sequence[str]) -> None:
    """Prints published values for these budgets, marked as what they are."""
    console = wide_console()
    by_model: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.budget in budgets:
            by_model.setdefault(f"{score.model} ({score.mode})", {})[score.budget] = score.squish
    if not by_model:
        return
    shown = list(dict.fromkeys(score.budget for score in scores if score.budget in budgets))
    # not the table's title, which would be wrapped to its narrow columns
    console.print(f"{SOURCE}: {MARK}", style="table.title", markup=False, highlight=False)
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model")
    for budget in shown:
        table.add_column(f"SQUISH@{budget}", justify="right")
    for model, values in by_model.items():
        table.add_row(Text(model), *(f"{values[b]:.3f}" if b in values else "–" for b in shown))
    console.print(table)


def to_markdown(board: Leaderboard) -> str:
    """The same tables in Markdown, each under its title, and the notes; names are escaped."""
    parts = []
    headings = _headings([escape(score.title) for score in board.scores])
    rules = ["---" if heading in _TEXT_COLUMNS else "---:" for heading in headings]
    plain = [
        replace(s, contender=escape(s.contender), budget=escape(s.budget), reference=escape(s.reference))
        for s in board.standings
    ]
    for title, standings in _groups(replace(board, standings=plain, rank_by=escape(board.rank_by))):
        lines = [headings, rules, *(_cells(standing, gap=" ") for standing in standings)]
        parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, *map(escape, board.notes)]) + "\n"


def to_csv(board: Leaderboard) -> str:
    """One line for each standing, with every figure in full; empty where there is none. `rules` says whose they are."""
    columns = [column for field in fields(Standing) for column in _columns(field.name, board.scores)]
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=[*columns, "rules"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(to_records(board))
    return file.getvalue()


def to_records(board: Leaderboard) -> list[dict[str, object]]:
    """The same lines as records, None where there is no figure."""
    rules = "original" if board.original_rules else "benchmark"
    return [_flat(standing) | {"rules": rules} for standing in board.standings]


def wide_console(scores: Sequence[Score] = SCORES) -> Console:
    """The terminal, at least as wide as a leaderboard of these scores needs it."""
    return Console(width=max(Console().width, _LEAST_WIDTH + _SCORE_WIDTH * (len(scores) - len(SCORES))))


def _groups(board: Leaderboard) -> list[tuple[str, list[Standing]]]:
    by = score_title(board.rank_by)
    return [
        (f"Budget {budget}, reference {reference}, ranked by {by}; means [95 % bootstrap interval]", standings)
        for (budget, reference), standings in board.groups().items()
    ]


def _headings(scores: Sequence[str]) -> list[str]:
    """Of the columns, for scores of these titles."""
    rest = ("next is behind", "over budget", "unparsable", "coverage", "length used", "copied")
    return ["#", _NAME, *scores, *rest]


def _cells(standing: Standing, gap: str) -> list[str]:
    """The columns' figures; `gap` stands between the two parts of a long one."""
    behind = ""
    if standing.ahead is not None and not math.isnan(standing.ahead.mean):
        behind = f"by {standing.ahead.mean:.4f},{gap}{'resolved' if standing.resolved else 'not resolved'}"
    return [
        str(standing.rank),
        " ".join(standing.contender.split()) + (f"{gap}({standing.mark})" if standing.mark else ""),
        *(_interval(score, gap) for score in standing.scores.values()),
        behind,
        _share(standing.over_budget),
        _share(standing.unparsable),
        _share(standing.coverage) + (f",{gap}{standing.failed} failed" if standing.failed else ""),
        _share(standing.length_used),
        _share(standing.copied),
    ]


def _interval(estimate: Estimate, gap: str) -> str:
    if math.isnan(estimate.mean):
        return "–"
    if math.isnan(estimate.low):
        return f"{estimate.mean:.4f}"
    return f"{estimate.mean:.4f}{gap}[{estimate.low:.4f}, {estimate.high:.4f}]"


def _share(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else "–"


def _flat(standing: Standing) -> dict[str, object]:
    """Scores, and what is an estimate, spread over columns of their own."""
    columns: dict[str, object] = {}
    for field in fields(Standing):
        value = getattr(standing, field.name)
        if field.name == "scores":
            for key, score in value.items():
                columns |= zip(_spread(key), score, strict=True)
        elif field.name == "ahead":
            columns |= zip(_spread("ahead"), value or _UNKNOWN, strict=True)
        else:
            columns[field.name] = value
    return {name: None if value != value else value for name, value in columns.items()}


def _columns(name: str, scores: Sequence[Score]) -> list[str]:
    if name == "scores":
        return [column for score in scores for column in _spread(score.key)]
    return _spread(name) if name == "ahead" else [name]


def _spread(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]
