"""The files that charts are written into."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from chart_examples import board, document, findings, small, standing
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from squish_pl.benchmark.findings import Findings, ShownSummary
from squish_pl.benchmark.report import charts
from squish_pl.benchmark.report.charts import pictures, write_charts
from squish_pl.benchmark.report.write import write_findings, write_report
from squish_pl.errors import DataError


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def both(*stems: str) -> list[str]:
    return [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]


def at(*budgets: str, reference: str = "r") -> Findings:
    return small(*(standing("a", 1, 0.1, budget=budget, reference=reference) for budget in budgets))


def test_files_of_all_charts_and_heat_maps(tmp_path: Path) -> None:
    of = findings(board(budgets=("1%", "2%")))
    files = write_charts(pictures(of), tmp_path / "new" / "charts")
    stems = ["leaderboard-1pct", "leaderboard-2pct", "scatter-1pct", "scatter-2pct", "curves"]
    assert [file.name for file in files] == both(*stems, "heat-map-1", "heat-map-2")
    assert sorted(files) == sorted((tmp_path / "new" / "charts").iterdir())
    with Image.open(files[0]) as picture:
        assert picture.info["dpi"][0] >= 160
        assert picture.width == pytest.approx(9 * 180, abs=1)
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50  # it is not blank


def test_the_same_findings_give_the_same_files(tmp_path: Path) -> None:
    first, second = (write_charts(pictures(at("5%", "10%")), tmp_path / name) for name in ("one", "two"))
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_a_heat_map_is_numbered_by_its_documents_place(tmp_path: Path) -> None:
    unmeasured = replace(document(), summaries=[ShownSummary("a", "10%", 0, None, "failed")])
    of = replace(small(), documents=lambda: iter([unmeasured, document(), unmeasured]))
    assert [file.name for file in write_charts(pictures(of), tmp_path)] == both("heat-map-2")


def test_charts_of_an_earlier_run_go_and_other_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("bars", "scatter", "curves", "heat_map"):  # only the files' names matter
        monkeypatch.setattr(charts, kind, lambda *_: Figure(figsize=(1, 1)))
    two = small(
        *(standing("a", 1, 0.1, budget=b, reference=r) for b in ("5% tokens", "7% tokens") for r in ("x/Z", "y"))
    )
    write_charts(pictures(replace(two, documents=findings().documents)), tmp_path)
    assert {"leaderboard-7pct-tokens-y.png", "curves-x-z.svg", "heat-map-2.png"} <= set(names(tmp_path))
    write_charts(pictures(at("2.5%", "5%", "8 tokens", "9 tokens")), tmp_path)
    assert names(tmp_path) == sorted(
        both(
            *(
                f"{kind}-{slug}"
                for kind in ("leaderboard", "scatter")
                for slug in ("2-5pct", "5pct", "8-tokens", "9-tokens")
            ),
            "curves-pct-chars",
            "curves-tokens",
        )
    )
    own = ["mine.png", "leaderboard.png", "leaderboard-best.svg", "curves.pdf", "curves-of-mine.txt"]
    for name in own:
        (tmp_path / name).write_text("mine")
    write_charts(pictures(at("10%")), tmp_path)
    assert names(tmp_path) == sorted([*own, *both("leaderboard-10pct", "scatter-10pct")])
    assert (tmp_path / "leaderboard-10pct.png").stat().st_mode == (tmp_path / "mine.png").stat().st_mode


def test_charts_of_an_earlier_run_stay_where_new_ones_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file: file.read_bytes() for file in write_charts(pictures(at("5%")), tmp_path)}

    write, files = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        files.append(path)
        if len(files) == 3:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"cannot write charts to '.*': No space left on device; free disk space"):
        write_charts(pictures(at("5%", "10%")), tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_report_whose_charts_cannot_be_written_gives_a_message(tmp_path: Path) -> None:
    (tmp_path / "charts").write_text("a file")
    with pytest.raises(DataError, match="cannot write charts to"):
        write_report(at("5%"), [], tmp_path)


def test_each_chart_is_drawn_once_for_page_files_and_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def counted(kind: str) -> Callable[..., Figure]:
        draw = getattr(charts, kind)

        def counting(*arguments: object) -> Figure:
            drawn.append(kind)
            figure = draw(*arguments)
            assert isinstance(figure, Figure)
            return figure

        return counting

    for kind in ("bars", "scatter", "curves", "heat_map"):
        monkeypatch.setattr(charts, kind, counted(kind))
    of = replace(at("5%", "10%"), documents=lambda: iter([document()]))
    report, logs = tmp_path / "report", tmp_path / "logs"
    told = write_findings(of, str(report), str(logs))
    assert drawn == ["bars", "bars", "scatter", "scatter", "curves", "heat_map"]
    assert told == [f"dashboard: tensorboard --logdir {logs}", f"report: {report / 'index.html'}"]
    # and all three have them
    assert len(names(report / "charts")) == 12
    assert (report / "index.html").read_text().count("<figure") == 3  # scatters and curves
    (run,) = logs.iterdir()
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()["images"]
    assert len(tags) == 6
    (event,) = events.Images(tags[0])
    with Image.open(report / "charts" / "leaderboard-5pct.png") as file:
        image = Image.open(io.BytesIO(event.encoded_image_string))
        assert image.tobytes() == file.convert("RGB").tobytes()


def test_nothing_is_drawn_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "bars", None)  # whose call would fail
    assert write_findings(at("5%"), None, None) == []
