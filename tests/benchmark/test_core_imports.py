"""What is shown follows from what was found, never the other way round."""

from __future__ import annotations

import ast
from pathlib import Path

import squish_pl.benchmark

ROOM = Path(squish_pl.benchmark.__file__).parent
REPORT = "squish_pl.benchmark.report"


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere, with what it takes from each; all imports are absolute."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_core_imports_nothing_of_the_report() -> None:
    files = sorted(ROOM.rglob("*.py"))
    core = [path for path in files if "report" not in path.relative_to(ROOM).parts]
    takes_report = {path for path in files if any(name.startswith(REPORT) for name in imported(path))}
    assert len(core) > 15
    assert takes_report
    assert takes_report.isdisjoint(core)
