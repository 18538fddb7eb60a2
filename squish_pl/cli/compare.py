"""`validate --config benchmark.yaml`: any summarisers on any documents, compared."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Optional, get_args, get_type_hints

from jsonargparse import auto_cli
from rich.console import Console
from rich.text import Text

from squish_pl.benchmark import attacks  # noqa: F401 - so that their names are known to configurations
from squish_pl.benchmark.claims import LEASE
from squish_pl.benchmark.compare import Comparison, prepare
from squish_pl.benchmark.contenders import Contender
from squish_pl.benchmark.documents import load_documents
from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.leaderboard_tables import print_leaderboard, print_published, print_usage
from squish_pl.benchmark.output import write_output
from squish_pl.benchmark.published import published_scores
from squish_pl.benchmark.references import Reference, pick_device
from squish_pl.benchmark.report.write import report_problems, write_findings
from squish_pl.benchmark.resistance_tables import print_resistance
from squish_pl.benchmark.store import Store
from squish_pl.budget import Budget
from squish_pl.cli.sharing import StorePlace, lease_problems, share
from squish_pl.data.filters import Selection
from squish_pl.data.settings import data_problems
from squish_pl.errors import ConfigError
from squish_pl.score.ensemble import Rule
from squish_pl.score.settings import ScoreSettings


def run(arguments: list[str]) -> None:
    """Runs the command with its arguments."""
    auto_cli(benchmark, args=arguments, as_positional=False, exit_on_error=False)


def benchmark(
    contenders: list[Contender],
    documents: str = "samples",
    max_documents: Optional[int] = None,
    min_characters: int = 0,
    max_characters: Optional[int] = None,
    max_with_summary: Optional[int] = None,
    max_tokens: Optional[int] = None,
    budgets: list[str] = ["1%", "2%", "5%", "10%", "20%"],
    references: list[Reference] = [Reference()],
    rule: Rule = "mean",
    score: ScoreSettings = ScoreSettings(),
    device: str = "auto",
    rank_by: str = "squish",
    original_rules: bool = False,
    published: bool = False,
    store: StorePlace = StorePlace("runs/benchmark.sqlite"),
    lease: float = LEASE,
    report: Optional[str] = None,
    shown: int = 200,
    logs: Optional[str] = "runs/benchmark",
    good: str = "highlights",
    output: Optional[str] = None,
) -> None:
    """Lets summarisers write, scores what they wrote, and prints a leaderboard for each budget and reference.

    A run that was stopped goes on where it was: answers and scores are kept in the store.

    Args:
        contenders: Whoever writes, by class_path and init_args: LocalModel, Endpoint, GivenSummaries, Opening,
            OriginalOpening, BestSentences, RandomSentences, Highlights, an attack, or a class of your own.
        documents: As for training: "samples", a file, a folder, a glob or hub://<owner>/<name>/<config>.
        max_documents: How many of them; all by default.
        min_characters: Length of the shortest, in characters.
        max_characters: Length of the longest, in characters.
        max_with_summary: Most characters of a document together with its longest summary under these budgets.
        max_tokens: Longest document in the first reference's tokens; longer ones are cut.
        budgets: Caps on a summary's length: "10%", "500 chars", "5% tokens", "64 tokens", "300 bytes".
        references: Models that measure, loaded one after the other; with several, their scores combined are ranked too.
        rule: How one score is made of several references': their mean, or min, the score that none falls below.
        score: How they measure.
        device: Of the references; "auto" takes a GPU where there is one.
        rank_by: The score that decides the ranking: squish, novel, or a measure's name.
        original_rules: The original's rules: cut summaries of less than 1.5 times the limit to int(0.7 * limit), drop
            those that score 0, keep contenders with more than 80 % of the documents.
        published: Lay the original's published values beside, which were measured under another template.
        store: File with answers and scores, or postgresql://user@host/database. Processes that are given the same one
            share the work.
        lease: Seconds after which the others take over from a process that gives no sign of life.
        report: Folder for a report: a page to look at, charts, tables, results.
        shown: Documents that the report shows with each token's savings.
        logs: Folder for TensorBoard.
        good: Name of the contender whose summaries are laid beside attacks, where there are any.
        output: Folder for results.jsonl, leaderboard.json and, where there are attacks, resistance.json.

    Raises:
        ConfigError: Settings that make no sense; all problems are named together.
        SquishError: The work cannot go on; what was done is stored.
    """
    if problems := null_problems(locals(), benchmark):
        raise ConfigError(problems)
    what = Comparison(
        contenders,
        references,
        budgets,
        score,
        rank_by,
        original_rules,
        shown if report or logs else 0,
        published_scores() if published else (),
        rule,
        good,
    )
    problems = data_problems(
        documents=documents, min_characters=min_characters, max_characters=max_characters, max_tokens=max_tokens
    )
    if max_documents is not None and max_documents < 1:
        problems.append(f"max_documents must be at least 1, but is {max_documents}")
    if max_with_summary is not None and max_with_summary < 1:
        problems.append(f"max_with_summary must be at least 1, but is {max_with_summary}")
    problems += what.problems() + lease_problems(lease) + report_problems(report, logs, output)
    if problems:
        raise ConfigError(problems)
    where = pick_device(device)
    selection = Selection(min_characters, max_characters, max_with_summary, tuple(map(Budget.parse, budgets)))
    found = load_documents(documents, max_documents, selection)
    work = prepare(what, found, documents, max_tokens)
    with stop_message(), Store(store) as kept:
        share(what, work, kept, where, lease, [report, logs, output], lambda f: show(f, report, logs, output))


@contextmanager
def stop_message() -> Iterator[None]:
    """Says, when the work is stopped with Ctrl-C, that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; what was done is stored: the same command goes on from there", file=sys.stderr)
        raise


def show(findings: Findings, report: str | None, logs: str | None, output: str | None = None) -> None:
    """Writes results, report and TensorBoard's files, then prints the leaderboard and what it took."""
    told = [] if output is None else [f"results: {write_output(findings, output)}"]
    told += write_findings(findings, report, logs)
    print_leaderboard(findings.board)
    if findings.resistance is not None:
        print_resistance(findings.resistance)
    print_published(findings.published, findings.budgets)
    print_usage(findings.usage)
    for line in told:
        Console().print(Text(line), soft_wrap=True)


def null_problems(settings: Mapping[str, object], function: Callable[..., None]) -> list[str]:
    """Settings that are null and must not be: a YAML file can say so of any."""
    optional = {name for name, kind in get_type_hints(function).items() if type(None) in get_args(kind)}
    return [f"{name} must not be null" for name, value in settings.items() if value is None and name not in optional]
