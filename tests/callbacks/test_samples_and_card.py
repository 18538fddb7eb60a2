import dataclasses
from types import SimpleNamespace

import markdown
import pytest

from squish_pl.callbacks import AdapterCheckpoint, SampleSummaries
from squish_pl.callbacks.card import score_table
from squish_pl.callbacks.texts import markdown_table
from squish_pl.markdown import escape
from squish_pl.rl.validation import Validated, ValidationSettings

SCORES = {"squish": 0.05, "novel": 0.02, "lead": 0.1, "lead_novel": -0.01}
LINE = Validated("one", "Opening", "10%", "A summary.", "closed", True, 0.5, 0.25, SCORES)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[click](javascript:alert(1)) ![i](http://x/y.png)",
        "a | b | c\n\n# heading\n- item",
        "`code` *em* __strong__ ~~gone~~ https://example.org <b>",
        "&lt;b&gt; &amp; \\| {x} +1 !",
    ],
)
def test_hostile_text_stays_text_in_a_table(text):
    table = "| a | b |\n|---|---|\n| " + escape(text) + " | end |"
    page = markdown.markdown(table, extensions=["tables"])
    body = page[page.index("<tbody>") :]
    assert body.count("<td>") == 2
    for tag in ("<script", "<a ", "<img", "<em", "<strong", "<code", "<h1", "<li", "<b>"):
        assert tag not in body


def test_the_table_shows_the_first_documents_and_says_why_there_is_no_summary():
    lines = [
        LINE,
        dataclasses.replace(LINE, document_id="two", opening="Second", summary=None, finish="outgrown"),
        dataclasses.replace(LINE, document_id="three", opening="Third"),
        dataclasses.replace(LINE, budget="20%"),
    ]
    _, rows = SampleSummaries(documents=2).table(lines)
    assert [row[0] for row in rows] == ["Opening…", "Opening…", "Second…"]
    assert "outgrown" in rows[2][2]
    assert rows[0] == ["Opening…", "10%", "A summary.", "0.0500", "0.0200", "0.1000"]


def test_measures_stand_beside_the_scores():
    more = {"novel_2": 0.03, "support": float("nan"), "lead_novel_2": 0.2, "audit_novel_2": 0.4}
    head, _, row = markdown_table(
        *SampleSummaries().table([dataclasses.replace(LINE, scores=SCORES | more)])
    ).splitlines()
    assert head == "| document | budget | summary | SQUISH | novel | novel_2 | support | opening's SQUISH |"
    assert row.endswith("| 0.0500 | 0.0200 | 0.0300 | – | 0.1000 |")
    figures = {f"val/{key}@10%": value for key, value in (SCORES | more).items() if value == value}
    head, _, row = score_table(figures | {"val/novel_2_low@10%": 0.01, "val/novel_2_high@10%": 0.05}).splitlines()
    assert head == (
        "| budget | SQUISH | SQUISH-novel | novel_2 | copied opening: SQUISH | copied opening: novel | "
        "copied opening: novel_2 |"
    )
    assert row == "| 10% | 0.0500 | 0.0200 | 0.0300 [0.0100, 0.0500] | 0.1000 | -0.0100 | 0.2000 |"


def test_the_best_adapter_is_the_best_and_its_value_is_remembered(tmp_path, monkeypatch):
    saved = []
    callback = AdapterCheckpoint(dirpath=str(tmp_path / "run"))
    monkeypatch.setattr(callback, "_save_folder", lambda trainer, module, name: saved.append((module.round, name)))
    trainer = SimpleNamespace(sanity_checking=False, state=SimpleNamespace(fn="fit"), save_checkpoint=lambda path: None)
    trainer.is_global_zero = True
    for round_, value in ((0, float("nan")), (1, 0.1), (2, 0.3), (3, 0.2), (4, 0.4)):
        module = SimpleNamespace(
            round=round_,
            validations={round_: {"val/squish": value}},
            validation=ValidationSettings(),
            validated=[LINE],
        )
        callback.on_validation_end(trainer, module)
    assert [round_ for round_, name in saved if name == "best"] == [1, 2, 4]
    resumed = AdapterCheckpoint(dirpath=str(tmp_path / "run"))
    resumed.load_state_dict(callback.state_dict())
    assert resumed.best == 0.4
    with pytest.raises(KeyError, match=r"val/nothing.*val/squish"):
        AdapterCheckpoint(dirpath=str(tmp_path / "run"), monitor="val/nothing").on_validation_end(trainer, module)


def test_an_earlier_run_is_kept_under_the_next_free_name(tmp_path):
    callback = AdapterCheckpoint(dirpath=str(tmp_path / "run"))
    assert callback.keep_earlier_run() is None
    for number in (1, 2):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "last.ckpt").write_text(str(number))
        assert callback.keep_earlier_run() == tmp_path / f"run-earlier-{number}"
    assert (tmp_path / "run-earlier-1" / "last.ckpt").read_text() == "1"
