"""The meta-evaluation as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from squish_pl.benchmark.meta import KINDS
from squish_pl.benchmark.meta_run import MetaFindings
from squish_pl.benchmark.report import meta_views
from squish_pl.benchmark.report.chart_systems import systems_chart
from squish_pl.benchmark.report.page_template import filled
from squish_pl.benchmark.report.themed_svg import themed_svg
from squish_pl.files import written_whole


def write_meta_page(findings: MetaFindings, path: Path) -> None:
    """Writes the page, whole or not at all.

    Args:
        findings: What is shown.
        path: The file, and its folder where there is none.

    Raises:
        DataError: The file cannot be written; an earlier one is untouched.
        SquishError: matplotlib is not installed.
    """
    tables = meta_views.correlation_tables(findings.rows)
    drawn_systems = list(meta_views.systems(findings))
    pieces = filled(
        "meta.html.j2",
        "How measures follow people’s ratings",
        meta_views.shown_facts(findings),
        scripts=["meta.js"],
        styles=["meta.css"],
        kinds={kind: meta_views.KIND_TEXTS[kind] for kind in KINDS},
        layouts=meta_views.LAYOUTS,
        tables=tables,
        scale=meta_views.common_scale(tables),
        first=findings.rows[0].measure if findings.rows else "",
        rated=list(dict.fromkeys(meta_views.rated_name(row) for row in findings.rows)),
        box=meta_views.BOX,
        plots=meta_views.plots(findings),
        system_measures=list(dict.fromkeys(one.measure for one in drawn_systems)),
        without_systems=_without_systems(findings, drawn_systems),
        systems=_drawn(drawn_systems),
    )
    with written_whole(path) as file:
        file.writelines(pieces)


def _without_systems(findings: MetaFindings, drawn: list[meta_views.Systems]) -> list[str]:
    known = {one.rated for one in drawn}
    return [name for name in dict.fromkeys(map(meta_views.rated_name, findings.rows)) if name not in known]


def _drawn(systems: list[meta_views.Systems]) -> Iterator[tuple[meta_views.Systems, str]]:
    """One figure at a time, each with its <svg> element."""
    for one in systems:
        title = f"Systems by {one.measure} and {one.rated}"
        yield one, themed_svg(systems_chart(title, one.measure, one.aspect, one.means))
