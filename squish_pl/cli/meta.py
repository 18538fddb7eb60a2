"""`meta`: how well scores follow people's ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from jsonargparse import auto_cli
from rich.console import Console
from rich.text import Text

from squish_pl import __version__
from squish_pl.benchmark.meta_run import MetaFindings, compare_measures, measure, measure_values
from squish_pl.benchmark.meta_tables import print_meta, write_meta
from squish_pl.benchmark.ratings.reading import read_ratings
from squish_pl.benchmark.references import Reference, dtype_name, pick_device
from squish_pl.benchmark.report.write import report_problems, write_meta_report
from squish_pl.benchmark.store import Store
from squish_pl.cli.compare import null_problems, stop_message
from squish_pl.cli.sharing import StorePlace
from squish_pl.errors import ConfigError, repeated
from squish_pl.files import paths_in
from squish_pl.lm.loading import DType
from squish_pl.score.measures.base import Measure, measure_problems, needs_of
from squish_pl.score.measures.candidates import default_measures
from squish_pl.score.settings import ScoreSettings
from squish_pl.score.template import ScoreTemplate


def run(arguments: list[str]) -> None:
    """Runs the command with its arguments."""
    auto_cli(meta, args=arguments, as_positional=False, exit_on_error=False)


def meta(
    ratings: str,
    base: str = "Qwen/Qwen3-1.7B-Base",
    gguf_file: Optional[str] = None,
    revision: Optional[str] = None,
    dtype: DType = "auto",
    device: str = "auto",
    max_documents: Optional[int] = None,
    max_tokens: Optional[int] = None,
    measures: Optional[list[Measure]] = None,
    template: ScoreTemplate = ScoreTemplate(),
    batch_tokens: int = 8192,
    output: str = "meta.json",
    report: Optional[str] = None,
    store: StorePlace = StorePlace("runs/meta.sqlite"),
) -> None:
    """Measures how well scores follow people's ratings of summaries.

    What passes through the reference told is kept in the store: a run that was stopped goes on where it was, and other
    measures of the same passes cost none.

    Args:
        ratings: JSON lines with the fields `document` (an id), `text`, `summary`, `scores` (a number for each aspect)
            and, where it is known, `system`; or SummEval's or Newsroom's own file, see docs/meta.md. May be gzipped.
            Several files, separated by commas.
        base: Reference model: hub id, folder, or "package:NAME".
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        device: "auto" takes a GPU where there is one.
        max_documents: How many of each file's first documents; all by default.
        max_tokens: Longest document in the reference's tokens; longer ones are cut.
        measures: By class_path and init_args: Fair, Squish, Support, any other of docs/meta.md, or a class of your own.
            The others are compared with the first. By default one of each.
        template: How summary and document are framed.
        batch_tokens: Most tokens in one forward pass.
        output: JSON file for all figures; a CSV table is written beside it.
        report: Folder for a page to look at: tables, summaries and systems by measures and ratings.
        store: File with what the passes told.

    Raises:
        ConfigError: Settings that make no sense; all problems are named together.
        DataError: Ratings cannot be read.
        ModelError: The reference cannot be loaded.
    """
    if problems := null_problems(locals(), meta):
        raise ConfigError(problems)
    chosen = default_measures() if measures is None else measures
    reference = Reference(base, gguf_file, revision, dtype)
    settings = ScoreSettings(template, batch_tokens=batch_tokens)
    paths, target = paths_in(ratings), Path(output).expanduser()
    problems = ([] if chosen else ["measures must name at least one"]) + measure_problems(chosen)
    problems += [p.removeprefix("references: ") for p in reference.problems()]
    problems += settings.problems() + _file_problems(paths, target) + report_problems(report)
    for name, value in (("max_documents", max_documents), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            problems.append(f"{name} must be at least 1, but is {value}")
    if problems:
        raise ConfigError(problems)
    where = pick_device(device)
    files = [read_ratings(path).first(max_documents) for path in paths]
    with stop_message(), Store(store) as kept:
        found = measure(files, reference, settings, where, kept, needs_of(chosen), max_tokens)
    values = measure_values(chosen, found)
    rows = compare_measures(files, values)
    title = f"{reference.title} ({dtype_name(reference, where)} on {where.type})"
    facts = {
        "reference": title,
        "documents": {file.name: len(file.documents) for file in files},
        "max_tokens": max_tokens,
        "frame": template.frame,
        "support_frame": template.support_frame,
        "squish-pl": __version__,
    }
    table = write_meta(rows, facts, target)
    print_meta(rows, title)
    told = [f"all figures: {target}, {table}"]
    if report is not None:
        told.append(f"report: {write_meta_report(MetaFindings(title, facts, files, values, rows), report)}")
    for line in told:
        Console().print(Text(line), soft_wrap=True)


def _file_problems(paths: list[str], output: Path) -> list[str]:
    found = [] if paths else ["ratings must name at least one file"]
    found += [
        f"ratings: {count} files are called {name!r}, the name by which results are told apart"
        for name, count in repeated(Path(path).name for path in paths).items()
    ]
    if output.is_dir() or output.suffix == ".csv":
        found.append(f"output must be a JSON file (the CSV table is written beside it), but is {str(output)!r}")
    return found
