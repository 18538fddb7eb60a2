"""What TensorBoard reads back."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from chart_examples import document, small, standing
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from squish_pl.benchmark.findings import Findings, Usage
from squish_pl.benchmark.report import dashboard
from squish_pl.benchmark.report.charts import pictures
from squish_pl.benchmark.report.dashboard import log_findings
from squish_pl.errors import DataError

EVIL = "<script>alert(1)</script> [x](http://e.org) *b* a|b `c`"


def read(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def logged(of: Findings, folder: Path) -> Path:
    return log_findings(of, pictures(of), folder)


def texts(events: EventAccumulator) -> dict[str, str]:
    return {
        tag.removesuffix("/text_summary"): events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in events.Tags()["tensors"]
    }


def two_budgets(name: str = "a") -> Findings:
    return small(*(standing(name, 1, 0.1, budget=budget) for budget in ("5%", "10%")))


def test_images_are_grouped_and_large_enough_to_read(tmp_path: Path) -> None:
    unmeasured = replace(document(), summaries=[])
    of = replace(two_budgets(), documents=lambda: iter([document(), unmeasured, document()]))
    events = read(logged(of, tmp_path))
    assert events.Tags()["images"] == [
        "1 leaderboard/5%",
        "1 leaderboard/10%",
        "2 novelty/5%",
        "2 novelty/10%",
        "3 budgets/Scores by budget: reference SmolLM2-135M",
        "4 heat map/document 1",
        "4 heat map/document 3",
    ]
    assert events.Tags()["scalars"] == []
    for tag in events.Tags()["images"]:
        (event,) = events.Images(tag)
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20  # it is not blank


def test_tables_hold_the_figures(tmp_path: Path) -> None:
    usage = [Usage("a", 20, 3, 12_345, 678, 0.5, 90.0, [("busy", 2)]), Usage("b", 1, 0, 1, 1, None, 1.0)]
    found = texts(read(logged(replace(two_budgets(), usage=usage, facts={"documents": "140"}), tmp_path)))
    assert list(found) == [
        "0 about/facts",
        "0 about/how to read the images",
        "0 about/usage",
        "1 leaderboard/5%",
        "1 leaderboard/10%",
    ]
    assert "| 1 | a | 0.1000 [0.0900, 0.1100] | 0.0500 [0.0400, 0.0600] |" in found["1 leaderboard/10%"]
    assert "| documents | 140 |" in found["0 about/facts"]
    assert "| a | 20 | 3 | 12,345 | 678 | 0.50 | 90 | busy (2) |" in found["0 about/usage"]
    assert "| b | 1 | 0 | 1 | 1 | – | 1 |  |" in found["0 about/usage"]


def test_many_reasons_are_cut_short(tmp_path: Path) -> None:
    usage = [Usage("a", 0, 99, 0, 0, None, 0.0, [(f"why {number}", 22 - number) for number in range(22)])]
    table = texts(read(logged(replace(two_budgets(), usage=usage), tmp_path)))["0 about/usage"]
    assert "| why 0 (22); why 1 (21); " in table
    assert table.endswith("; why 19 (3); and 3 more |")


def test_nothing_of_a_text_becomes_markup(tmp_path: Path) -> None:
    of = two_budgets(EVIL)
    of = replace(
        of,
        title=EVIL,
        facts={EVIL: EVIL},
        usage=[Usage(EVIL, 1, 1, 1, 1, None, 1.0, [(EVIL, 1)])],
        board=replace(of.board, notes=[EVIL]),
    )
    for text in texts(read(logged(of, tmp_path))).values():
        assert not any(sign in text for sign in ("<", "[x]", "*b*", "a|b", "`"))
    # the name itself is there, as text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_references_are_told_apart(tmp_path: Path) -> None:
    of = small(*(standing("a", 1, 0.1, reference=name) for name in ("r", "s", "mean of references")))
    events = read(logged(replace(of, references=["r", "s"]), tmp_path))
    names = ["10%, r", "10%, s", "10%, mean of references"]
    assert events.Tags()["images"] == [f"{group}/{name}" for group in ("1 leaderboard", "2 novelty") for name in names]
    assert [tag for tag in texts(events) if tag.startswith("1")] == [f"1 leaderboard/{name}" for name in names]


def test_each_call_is_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(dashboard.datetime):
        @classmethod
        def now(cls, tz: object = None) -> Frozen:
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(dashboard, "datetime", Frozen)
    runs = [logged(small(), tmp_path / "new" / "runs") for _ in range(3)]
    assert [run.name for run in runs] == [f"benchmark-20260102-030405{end}" for end in ("", "-2", "-3")]
    assert sorted(runs) == sorted((tmp_path / "new" / "runs").iterdir())
    assert all(len(list(run.iterdir())) == 1 for run in runs)


def test_a_file_in_the_folders_place_gives_a_message(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(DataError, match="cannot write TensorBoard's files"):
        logged(small(), tmp_path / "runs")
