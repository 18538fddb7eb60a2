"""What a command says at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from squish_pl.callbacks.about import judge
from squish_pl.callbacks.adapter_checkpoint import AdapterCheckpoint
from squish_pl.callbacks.results import shared_budgets
from squish_pl.data.summaries import RESULTS
from squish_pl.module import SquishModule
from squish_pl.rl.validation import estimate_of, keys_of
from squish_pl.score.baselines import lead_key

_SHARES = {
    "parsed": "parsed",
    "within_budget": "within budget",
    "length_used": "budget used by those",
    "copied": "copied",
}


def score_table(title: str, columns: Mapping[str, Mapping[str, float]]) -> Table:
    """Scores at each budget that all have, a column for each validation, the copying baseline last.

    Args:
        title: Above the table.
        columns: Heading -> figures of a validation.
    """
    figures = list(columns.values())[-1]
    table = Table(title=title, title_justify="left")
    table.add_column("budget")
    table.add_column("score")
    for heading in (*columns, "copied opening"):
        table.add_column(heading, justify="right", no_wrap=True)
    for budget in shared_budgets(columns.values()):
        for key in keys_of(figures):
            cells = [_cell(column, key, budget) for column in columns.values()]
            table.add_row(budget, "SQUISH" if key == "squish" else key, *cells, _cell(figures, lead_key(key), budget))
    return table


def print_validation_report(module: SquishModule) -> None:
    """The scores of `validate`."""
    console = Console()
    if not module.validated:
        console.print("nothing was validated: trainer.limit_val_batches left no document")
        return
    documents = len({line.document_id for line in module.validated})
    _print_scores(console, counted(documents, "document"), {"policy": module.validations[module.round]})


def print_fit_report(module: SquishModule, trainer: Trainer, checkpoint: AdapterCheckpoint | None) -> None:
    """Scores before and after, where the adapter is, and how to look at the run."""
    console = Console()
    rounds = sorted(r for r, figures in module.validations.items() if figures)
    if rounds:
        newest = module.validations[rounds[-1]]
        alike = [r for r in rounds if shared_budgets([module.validations[r], newest])]
        columns = {f"round {r}" if r else "before": module.validations[r] for r in dict.fromkeys((alike[0], alike[-1]))}
        _print_scores(console, f"After {counted(module.round, 'round')}", columns)
    if checkpoint is not None:
        best, last = checkpoint.dirpath / "best", checkpoint.dirpath / "last"
        chosen = checkpoint.best_round is not None and best.is_dir()
        if chosen or last.is_dir():
            console.print(Text(f"adapter: {best if chosen else last}"), soft_wrap=True)
        monitor = checkpoint.monitored(module)
        if chosen and checkpoint.best_round != module.round:
            console.print(Text(f"(best is round {checkpoint.best_round}, {monitor} {checkpoint.best:.4f})"))
        if chosen:
            console.print(Text(judge(module, monitor)), soft_wrap=True)
        if rounds and (checkpoint.dirpath / RESULTS).is_file():
            console.print(Text(f"all figures and summaries: {checkpoint.dirpath / RESULTS}"), soft_wrap=True)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and logger.save_dir:
            console.print(Text(f"dashboard: tensorboard --logdir {logger.save_dir}"), soft_wrap=True)
        elif isinstance(logger, CSVLogger):
            console.print(Text(f"figures and summaries: {logger.log_dir}"), soft_wrap=True)


def print_prediction_report(path: str, count: int) -> None:
    """Where the summaries are."""
    written = f"{count} summary" if count == 1 else f"{count} summaries"
    Console().print(Text(f"{written} written to {path}"), soft_wrap=True)


def counted(count: int, noun: str) -> str:
    """ "1 round", "2 rounds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _print_scores(console: Console, what: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    intervals = any(key.startswith("val/squish_low@") for figures in columns.values() for key in figures)
    mean = ", mean [95 % interval]" if intervals else ""  # one document has no mean to speak of, and no interval
    measures = len(keys_of(list(columns.values())[-1])) > 2
    scores = "SQUISH, SQUISH-novel and measures" if measures else "SQUISH and SQUISH-novel"
    console.print(score_table(f"{what}: {scores}{mean}", columns))
    _print_shares(console, columns)


def _cell(figures: Mapping[str, float], key: str, budget: str) -> str:
    found = estimate_of(figures, key, budget)
    if math.isnan(found.mean):  # not measured then, or no summary counted
        return "–"
    return escape(f"{found.mean:.4f}\n{found.interval_text()}".rstrip())


def _print_shares(console: Console, columns: Mapping[str, Mapping[str, float]]) -> None:
    for name, what in _SHARES.items():
        shares = [figures.get(f"val/{name}", math.nan) for figures in columns.values()]
        if not all(map(math.isnan, shares)):
            told = " -> ".join("–" if math.isnan(share) else f"{share:.0%}" for share in shares)
            console.print(f"{what}: {told}", highlight=False)
