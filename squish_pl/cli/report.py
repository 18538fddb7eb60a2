"""`report --compare a.sqlite b.sqlite`: two runs of the benchmark, document by document."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from squish_pl.benchmark.leaderboard_tables import wide_console
from squish_pl.benchmark.run_pairs import compare_runs, pair_tables, pairs_csv, stored_rows
from squish_pl.files import written_whole


def run(arguments: list[str]) -> None:
    """Runs the command with its arguments."""
    parser = argparse.ArgumentParser(prog="lightning_cli.py report", description=__doc__)
    parser.add_argument("--compare", nargs=2, metavar=("FIRST", "SECOND"), required=True, help="stores of two runs")
    parser.add_argument("--output", metavar="FILE", help="CSV file for every figure in full")
    chosen = parser.parse_args(arguments)
    report(chosen.compare, chosen.output)


def report(stores: list[str], output: str | None = None) -> None:
    """Prints by how much contenders differ between two runs, over the documents that both have.

    Raises:
        DataError: A store cannot be read, they cannot be compared, or the file cannot be written.
    """
    compared = compare_runs(*(stored_rows(path) for path in stores))
    console = wide_console()
    names = [Path(path).name for path in stores]
    for table in pair_tables(compared, names if names[0] != names[1] else stores):
        console.print(table)
    for note in compared.notes:
        console.print(note, markup=False, highlight=False)
    if output is not None:
        with written_whole(Path(output).expanduser()) as file:
            file.write(pairs_csv(compared))
        Console().print(Text(f"all figures: {output}"), soft_wrap=True)
