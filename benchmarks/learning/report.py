"""The report of the learning study: end figures by arm and seed, curves, summaries side by side."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BUDGETS = ("10%", "20%")
SCORES = ("squish", "novel", "fair")
MANNERS = ("within_budget", "length_used", "copied")
CURVES = ("reward/mean", "rollout/entropy", "rollout/used", "val/squish", "val/novel", "val/fair")
SHOWN = 5  #: documents whose summaries are shown in full


def write_report(folder: Path) -> None:
    """Writes table.md, curves.png and summaries.md for the runs in a folder that have ended."""
    runs = {
        run.name: json.loads((run / "checkpoints" / "results.json").read_text())
        for run in sorted(folder.iterdir())
        if (run / "done").exists() and not run.name.startswith("prepared-")
    }
    curves = {name: read_curves(folder / name / "curves") for name in runs}
    (folder / "table.md").write_text(table(runs, curves))
    (folder / "summaries.md").write_text(summaries(runs))
    draw(curves, folder / "curves.png")


def newest(results: Mapping[str, Any]) -> dict[str, float]:
    """Figures of the last validation, which `after` is where the best adapter is the last one."""
    return results.get("last") or results["after"]


def table(runs: Mapping[str, Mapping[str, Any]], curves: Mapping[str, Mapping[str, list[tuple[int, float]]]]) -> str:
    """Before training and at the end of every run, at each budget, as Markdown."""
    lines = []
    for budget in BUDGETS:
        columns = [*SCORES, *MANNERS]
        lines += [
            f"## At {budget}",
            "",
            "| run | " + " | ".join(columns) + " | entropy, first and last rounds | distinct | |",
        ]
        lines += ["|---" * (len(columns) + 4) + "|"]
        for name, results in runs.items():
            rows = {"before": results["before"], "end": newest(results)}
            for when, figures in rows.items():
                cells = [_cell(figures.get(f"val/{column}@{budget}")) for column in columns]
                if when == "end":
                    cells += [_ends(curves[name].get(f"rollout/{figure}", [])) for figure in ("entropy", "distinct")]
                else:
                    cells += ["", ""]
                lines.append(f"| {name} | " + " | ".join(cells) + f" | {when} |")
        lines.append("")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if abs(value) < 0.5 else f"{value:.2f}"


def _ends(points: list[tuple[int, float]], count: int = 5) -> str:
    values = [value for _, value in points]
    if not values:
        return ""
    first, last = values[:count], values[-count:]
    return f"{sum(first) / len(first):.2f} → {sum(last) / len(last):.2f}"


def summaries(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The last summaries of the first documents, run by run, as Markdown."""
    lines = []
    for name, results in runs.items():
        lines += [f"## {name}", ""]
        for line in [s for s in results["summaries"] if s["budget"] == BUDGETS[0]][:SHOWN]:
            told = line.get("last") or line["after"]
            lines += [
                f"- {line['opening'][:90]!r}",
                f"  - before: {line['before']['summary']!r}",
                f"  - end: {told['summary']!r}",
            ]
        lines.append("")
    return "\n".join(lines)


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every figure's points (round, value), of all stops and resumptions; the later of two counts."""
    points: dict[str, dict[int, float]] = defaultdict(dict)
    files = sorted(folder.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
    for file in files:
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                for key, value in row.items():
                    if value and key != "step":
                        points[key][int(float(row["step"]))] = float(value)
    return {key: sorted(found.items()) for key, found in points.items()}


def draw(curves: Mapping[str, Mapping[str, list[tuple[int, float]]]], file: Path) -> None:
    """A panel for each figure, a line for each run."""
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), sharex=True)
    for axis, key in zip(axes.flat, CURVES, strict=True):
        axis.set_title(key)
        for name, found in curves.items():
            if key in found:
                axis.plot(*zip(*found[key], strict=True), label=name)
    axes.flat[-1].set_xlabel("round")
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
