"""What a command says at its end."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from squish_pl.callbacks.about import judge
from squish_pl.callbacks.adapter_checkpoint import AdapterCheckpoint
from squish_pl.module import SquishModule
from squish_pl.rl.validation import budgets_of, estimate_of


def score_table(title: str, columns: Mapping[str, Mapping[str, float]]) -> Table:
    """SQUISH and SQUISH-novel at each budget, a column for each validation, the copying baseline last.

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
    for budget in budgets_of(figures):
        for key, lead, name in (("squish", "lead", "SQUISH"), ("novel", "lead_novel", "novel")):
            cells = [_cell(column, key, budget) for column in columns.values()]
            table.add_row(budget, name, *cells, _cell(figures, lead, budget))
    return table


def print_validation_report(module: SquishModule) -> None:
    """The scores of `validate`."""
    console = Console()
    if not module.validated:
        console.print("nothing was validated: trainer.limit_val_batches left no document")
        return
    documents = len({line.document_id for line in module.validated})
    console.print(
        score_table(
            f"{documents} documents: SQUISH and SQUISH-novel, mean [95 % interval]",
            {"policy": module.validations[module.round]},
        )
    )
    _print_shares(console, {"policy": module.validations[module.round]})


def print_fit_report(module: SquishModule, trainer: Trainer, checkpoint: AdapterCheckpoint | None) -> None:
    """Scores before and after, where the adapter is, and how to look at the run."""
    console = Console()
    rounds = sorted(module.validations)
    if rounds:
        columns = {
            f"round {r}" if r else "before": module.validations[r] for r in dict.fromkeys((rounds[0], rounds[-1]))
        }
        console.print(
            score_table(f"After {module.round} rounds: SQUISH and SQUISH-novel, mean [95 % interval]", columns)
        )
        _print_shares(console, columns)
    if checkpoint is not None:
        best = checkpoint.dirpath / "best"
        console.print(Text(f"adapter: {best if best.is_dir() else checkpoint.dirpath / 'last'}"), soft_wrap=True)
        if checkpoint.best_round not in (None, module.round):
            monitor = checkpoint.monitored(module)
            console.print(Text(f"(best is round {checkpoint.best_round}, {monitor} {checkpoint.best:.4f})"))
        console.print(Text(judge(module, checkpoint.monitored(module))), soft_wrap=True)
    if trainer.logger is not None and trainer.logger.save_dir:
        console.print(Text(f"dashboard: tensorboard --logdir {trainer.logger.save_dir}"), soft_wrap=True)


def print_prediction_report(path: str, count: int) -> None:
    """Where the summaries are."""
    Console().print(Text(f"{count} summaries written to {path}"), soft_wrap=True)


def _cell(figures: Mapping[str, float], key: str, budget: str) -> str:
    found = estimate_of(figures, key, budget)
    return escape(f"{found.mean:.4f}\n{found.interval_text()}".rstrip())


def _print_shares(console: Console, columns: Mapping[str, Mapping[str, float]]) -> None:
    for name, key in (("parsed", "val/parsed"), ("within budget", "val/within_budget")):
        shares = " -> ".join(f"{figures[key]:.0%}" for figures in columns.values())
        console.print(f"{name}: {shares}", highlight=False)
