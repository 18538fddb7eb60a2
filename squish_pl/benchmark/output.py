"""All that a comparison leaves behind for programs: a folder of JSON files, without any extra library."""

from __future__ import annotations

import json
from pathlib import Path

from squish_pl.benchmark.findings import Findings
from squish_pl.benchmark.leaderboard_tables import to_records
from squish_pl.benchmark.resistance import mean_shares
from squish_pl.benchmark.results import result_lines, write_lines
from squish_pl.files import written_whole


def write_output(findings: Findings, folder: str | Path) -> Path:
    """Writes results.jsonl, leaderboard.json and, where there are attacks, resistance.json.

    Args:
        findings: What there is to write.
        folder: Made where it is missing.

    Returns:
        The folder.

    Raises:
        DataError: Something cannot be written.
    """
    folder = Path(folder).expanduser()
    write_lines(result_lines(findings.rows, findings.references, findings.board.scores), folder / "results.jsonl")
    _write(to_records(findings.board), folder / "leaderboard.json")
    if findings.resistance is not None:
        _write(mean_shares(findings.resistance), folder / "resistance.json")
    return folder


def _write(content: object, path: Path) -> None:
    with written_whole(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2) + "\n")
