"""All that a benchmark leaves behind for people: a report's folder, and TensorBoard's files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.leaderboard_tables import to_csv, to_markdown
from squish_pl.benchmark.meta_run import MetaFindings
from squish_pl.benchmark.resistance_tables import resistance_csv, resistance_markdown
from squish_pl.benchmark.results import result_lines, write_lines
from squish_pl.files import written_whole

if TYPE_CHECKING:
    from squish_pl.benchmark.report.charts import Picture

_NEEDED = ("jinja2", "matplotlib", "nltk")


def report_problems(report: str | None, logs: str | None = None, output: str | None = None) -> list[str]:
    """What stands in the way of a report, TensorBoard's files and results in their folders: found before the work."""
    found = []
    if missing := [name for name in _NEEDED if (report or logs) and find_spec(name) is None]:
        found.append(
            f"a report needs {', '.join(missing)}: pip install 'squish-pl[benchmark]', or set report and logs null"
        )
    for key, folder in (("report", report), ("logs", logs), ("output", output)):
        found += [] if folder is None else _folder_problems(key, folder)
    return found


def _folder_problems(key: str, folder: str) -> list[str]:
    path = Path(folder).expanduser()
    try:
        there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not there.is_dir():
            return [f"{key}: expected a folder, but {str(there)!r} is a file"]
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        return [f"{key}: cannot write into {folder!r}: {error.strerror}"]
    return []


def write_findings(findings: Findings, report: str | None, logs: str | None) -> list[str]:
    """Draws the charts, and writes them with all else into the folders of a report and of TensorBoard.

    Args:
        findings: What there is to show.
        report: Folder of the report; None for none.
        logs: Where TensorBoard's runs are; None for no run.

    Returns:
        Where to look, a sentence each.

    Raises:
        DataError: Something cannot be written.
    """
    if report is None and logs is None:
        return []
    # an extra, and slow to import: only where they are wanted
    from squish_pl.benchmark.report.charts import pictures

    drawn, told = pictures(findings), []
    if logs is not None:
        from squish_pl.benchmark.report.dashboard import log_findings

        log_findings(findings, drawn, logs)
        told.append(f"dashboard: tensorboard --logdir {logs}")
    if report is not None:
        told.append(f"report: {write_report(findings, drawn, report)}")
    return told


def write_report(findings: Findings, drawn: Sequence[Picture], folder: str | Path) -> Path:
    """Writes index.html, charts/*.png and *.svg, leaderboard.csv, leaderboard.md and results.jsonl.

    Where there are attacks, resistance.csv too, and the resistance below the leaderboard.

    Args:
        findings: What there is to show.
        drawn: Its charts.
        folder: Made where it is missing.

    Returns:
        The page.

    Raises:
        DataError: Something cannot be written.
    """
    from squish_pl.benchmark.report.charts import write_charts
    from squish_pl.benchmark.report.page import write_page

    folder = Path(folder).expanduser()
    texts = {"leaderboard.csv": to_csv(findings.board), "leaderboard.md": to_markdown(findings.board)}
    if findings.resistance is not None:
        texts["leaderboard.md"] += "\n" + resistance_markdown(findings.resistance)
        texts["resistance.csv"] = resistance_csv(findings.resistance)
    for name, text in texts.items():
        with written_whole(folder / name) as file:
            file.write(text)
    write_lines(result_lines(findings.rows, findings.references, findings.board.scores), folder / "results.jsonl")
    write_charts(drawn, folder / "charts")
    write_page(findings, drawn, folder / "index.html")
    return folder / "index.html"


def write_meta_report(findings: MetaFindings, folder: str | Path) -> Path:
    """Writes the meta-evaluation's page.

    Returns:
        The page: index.html in the folder, which is made where it is missing.

    Raises:
        DataError: It cannot be written.
    """
    from squish_pl.benchmark.report.meta_page import write_meta_page

    page = Path(folder).expanduser() / "index.html"
    write_meta_page(findings, page)
    return page
