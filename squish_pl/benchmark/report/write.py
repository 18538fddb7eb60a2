"""A report's folder: page, charts, tables, results."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from squish_pl.benchmark.leaderboard import Row
from squish_pl.benchmark.leaderboard_tables import to_csv, to_markdown
from squish_pl.benchmark.report.findings import Findings
from squish_pl.benchmark.results import result_lines, write_lines
from squish_pl.files import written_whole

_NEEDED = ("jinja2", "matplotlib", "nltk")


def report_problems(report: str | None, logs: str | None = None) -> list[str]:
    """What stands in the way of a report and of TensorBoard's files in their folders: found before hours of work."""
    found = []
    if missing := [name for name in _NEEDED if (report or logs) and find_spec(name) is None]:
        found.append(
            f"a report needs {', '.join(missing)}: pip install 'squish-pl[benchmark]', or set report and logs null"
        )
    for key, folder in (("report", report), ("logs", logs)):
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


def write_report(findings: Findings, rows: Sequence[Row], folder: str | Path) -> Path:
    """Writes index.html, charts/*.png and *.svg, leaderboard.csv, leaderboard.md and results.jsonl.

    Returns:
        The page.

    Raises:
        DataError: Something cannot be written.
    """
    # an extra, and slow to import: only for reports
    from squish_pl.benchmark.report.charts import write_charts
    from squish_pl.benchmark.report.page import write_page

    folder = Path(folder).expanduser()
    for name, text in (("leaderboard.csv", to_csv(findings.board)), ("leaderboard.md", to_markdown(findings.board))):
        with written_whole(folder / name) as file:
            file.write(text)
    write_lines(result_lines(rows, findings.references), folder / "results.jsonl")
    write_charts(findings, folder / "charts")
    write_page(findings, folder / "index.html")
    return folder / "index.html"
