"""`score`: the score of given summaries, without any training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from jsonargparse import auto_cli
from rich.console import Console
from rich.text import Text

from squish_pl.benchmark.claims import LEASE
from squish_pl.benchmark.compare import Comparison, prepare
from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.contenders.baselines import Opening
from squish_pl.benchmark.contenders.given import GivenSummaries, GivenText
from squish_pl.benchmark.documents import load_documents
from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.references import Reference, pick_device
from squish_pl.benchmark.report.write import report_problems
from squish_pl.benchmark.results import result_lines, write_lines
from squish_pl.benchmark.store import Store
from squish_pl.budget import Budget
from squish_pl.cli.compare import null_problems, show, stop_message
from squish_pl.cli.sharing import StorePlace, lease_problems, share
from squish_pl.cli.texts import STDIN, text_of, texts_of, told
from squish_pl.data.filters import make_document
from squish_pl.errors import ConfigError, DataError
from squish_pl.files import paths_in
from squish_pl.lm.loading import BaseModel, DType
from squish_pl.score.ensemble import Rule
from squish_pl.score.measures.base import Measure
from squish_pl.score.settings import Protocol, ScoreSettings
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document

_OPENING = "copied opening"
_OUTPUT = "scores.jsonl"


def run(arguments: list[str]) -> None:
    """Runs the command with its arguments."""
    auto_cli(score, args=arguments, as_positional=False, exit_on_error=False)


def score(
    documents: Optional[str] = None,
    summaries: Optional[str] = None,
    document: str = "",  # not None: a text that YAML reads as nothing ("# ...") has to stay one
    summary: str = "",
    budget: str = "10%",
    base: str = "Qwen/Qwen3-1.7B-Base",
    gguf_file: Optional[str] = None,
    revision: Optional[str] = None,
    dtype: DType = "auto",
    others: list[BaseModel] = [],
    rule: Rule = "mean",
    device: str = "auto",
    template: ScoreTemplate = ScoreTemplate(),
    protocol: Protocol = "own",
    novel_ngram: int = 4,
    measures: list[Measure] = ScoreSettings().measures,
    max_tokens: Optional[int] = None,
    batch_tokens: int = 8192,
    output: Optional[str] = None,
    store: Optional[StorePlace] = None,
    report: Optional[str] = None,
    lease: float = LEASE,
) -> None:
    """Scores given summaries and prints the means beside the copying baseline.

    Give documents and summaries (files of many), or document and summary (files, or texts themselves). Work that was
    stopped goes on where it was when the same command is given again.

    Args:
        documents: Documents, as for training: a file, folder or glob.
        summaries: JSON lines with the field `summary` (null where there is none), in the documents' order; or each
            with the `id`, `url` or `document` (the text) of its document. Several files, separated by commas, are
            compared.
        document: One document: a text file, "-" for standard input, or the text itself.
        summary: Its summary: the same three, or several files separated by commas, which are compared. A text of one
            word, or one that ends as a file's name does, takes "text:" before it.
        budget: Caps, separated by commas: "10%", "500 chars", "5% tokens", "64 tokens", "300 bytes". A summary that
            names a `budget` of its own is scored under that one.
        base: Reference model: hub id, folder, or "package:NAME".
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        others: Further references by base, gguf_file, revision and dtype; each measures by itself, and so do all
            together.
        rule: How their scores make one: "mean", or "min".
        device: "auto" takes a GPU where there is one.
        template: How summary and document are framed.
        protocol: "original" sums and frames as the original does.
        novel_ngram: Token n-grams of this length count as copied.
        measures: What is measured beside SQUISH and SQUISH-novel, by class_path and init_args: Fair, Support,
            any other of docs/meta.md, or a class of your own.
        max_tokens: Longest document in the reference's tokens; longer ones are cut.
        batch_tokens: Most tokens in one forward pass.
        output: JSON lines file for each summary's scores; by default scores.jsonl for files of many.
        store: File that keeps scores, or postgresql://user@host/database; by default a file beside the output, until
            the work is done. Processes that are given the same one share the work.
        report: Folder for a report: a page to look at, charts, tables.
        lease: Seconds after which the others take over from a process that gives no sign of life.

    Raises:
        DataError: Documents and summaries cannot be read or do not belong together.
        BudgetError: A budget cannot be understood.
        ModelError: The reference cannot be loaded.
    """
    if problems := null_problems(locals(), score):
        raise ConfigError(problems)
    budgets = [str(Budget.parse(text)) for text in budget.split(",")]
    if documents is not None and summaries is not None and not document and not summary:
        given, output = _files(documents, summaries, budgets), output or _OUTPUT
    elif document and summary and documents is None and summaries is None:
        given = _texts(document, summary, budgets)
    else:
        raise ConfigError(["give --documents and --summaries (files of many), or --document and --summary (two texts)"])
    what = Comparison(
        contenders=[*_named_apart(given.contenders), Opening(_OPENING)],
        references=[Reference(base, gguf_file, revision, dtype), *(Reference(**vars(model)) for model in others)],
        rule=rule,
        budgets=given.budgets,
        score=ScoreSettings(template, novel_ngram, batch_tokens, measures, protocol),
        shown=200 if report else 0,
    )
    if problems := what.problems() + lease_problems(lease) + report_problems(report):
        raise ConfigError(problems)
    where = pick_device(device)
    work = prepare(what, given.documents, given.source, max_tokens)

    def write(findings: Findings) -> None:
        if output is not None:
            lines = result_lines(findings.rows, findings.references, findings.board.scores, _OPENING)
            write_lines(lines, Path(output).expanduser())
        show(findings, report, None)

    if not store and output is None:
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "scores.sqlite") as kept:
            share(what, work, kept, where, lease, [], write)
        return
    place = store or str(Path(f"{output}.sqlite").expanduser())
    with stop_message(), Store(place) as kept:
        share(what, work, kept, where, lease, [output, report], write)
        if not store:
            kept.database.remove()  # by the last one


class _Given(NamedTuple):
    """What is scored: documents, where they come from, their summaries, and under which budgets."""

    documents: list[Document]
    source: str
    contenders: Sequence[Contender]
    budgets: list[str]


def _files(documents: str, summaries: str, budgets: list[str]) -> _Given:
    given = [GivenSummaries(path, strict=True) for path in paths_in(summaries)]
    own = list(dict.fromkeys(name for contender in given for name in contender.budgets))
    budgets = [*(budgets if None in own else ()), *(name for name in own if name is not None)]
    return _Given(load_documents(documents), documents, given, budgets)


def _texts(document: str, summary: str, budgets: list[str]) -> _Given:
    if document == summary == STDIN:
        raise ConfigError(["document and summary cannot both come from standard input: name a file for one of them"])
    given = text_of(document, "document")
    if not given.text.strip():
        raise DataError(f"{given.origin} is empty: expected a document")
    summaries = texts_of(summary, "summary")
    Console(highlight=False).print(Text(told([given, *summaries])), soft_wrap=True)
    whole = make_document({"text": given.text, "url": Path(given.origin).name})
    return _Given([whole], given.origin, [GivenText(one.name, one.text) for one in summaries], budgets)


def _named_apart(contenders: Sequence[Contender]) -> list[Contender]:
    """Numbers behind names that come twice."""
    names = [contender.name for contender in contenders]
    for number, contender in enumerate(contenders, 1):
        if names.count(contender.name) > 1 or contender.name == _OPENING:
            contender.name = f"{contender.name} ({number})"
    return list(contenders)
