"""`results.json`, as a run, a stopped one and one gone on with leave it."""

from __future__ import annotations

import json
import math

import pytest
from cli_tools import run_cli, tiny_arguments

from squish_pl.callbacks.results import RunResults, write_results


def results(folder):
    return json.loads((folder / "run" / "results.json").read_text())


def test_before_and_after_with_every_summary(tiny_model_folder, tmp_path, capsys):
    base = tiny_arguments(tiny_model_folder, tmp_path / "whole", rounds=4)
    code, out, err = run_cli(["fit", *base], capsys)
    assert code == 0, err
    found = results(tmp_path / "whole")
    assert "all figures and summaries:" in out
    assert found["rounds"]["before"] == 0
    assert found["monitor"] == "val/squish"
    assert set(found["before"]) >= {f"val/{key}@10%" for key in ("squish", "novel", "parsed", "within_budget")}
    assert found["before"].keys() == found["after"].keys() >= {"val/length_used@10%", "val/copied@10%"}
    for record in found["summaries"]:
        assert record["document"]
        for name in ("before", "after"):
            written = record[name]
            assert (written["summary"] is None) == (written["copied"] is None)
            assert math.isfinite(written["scores"]["squish"])
    own = [r["before"]["scores"]["squish"] for r in found["summaries"] if r["budget"] == "10%"]
    assert found["before"]["val/squish@10%"] == pytest.approx(sum(own) / len(own))

    # stopped and gone on with: the same
    stopped = tiny_arguments(tiny_model_folder, tmp_path / "parts", rounds=2)
    code, _, err = run_cli(["fit", *stopped], capsys)
    assert code == 0, err
    assert results(tmp_path / "parts")["before"] == found["before"]
    going_on = tiny_arguments(tiny_model_folder, tmp_path / "parts", rounds=4)
    code, _, err = run_cli(["fit", *going_on, "--ckpt_path", "last"], capsys)
    assert code == 0, err
    again = results(tmp_path / "parts")
    assert again["before"] == found["before"]
    assert [r["before"] for r in again["summaries"]] == [r["before"] for r in found["summaries"]]


def test_a_share_that_no_summary_tells_anything_of_is_null(tmp_path):
    validations = {0: {"val/squish@10%": 0.1, "val/copied@10%": 0.5}, 2: {"val/squish@10%": 0.0}}
    write_results(tmp_path / "results.json", RunResults().content(validations, 2, "val/squish"))
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["before"]["val/copied@10%"] == 0.5
    assert "val/copied@10%" in found["after"]
    assert found["after"]["val/copied@10%"] is None
    assert found["after"]["val/squish@10%"] == 0.0


def test_a_rule_for_lengths_in_a_run(tiny_model_folder, tmp_path, capsys):
    base = tiny_arguments(tiny_model_folder, tmp_path, rounds=2)
    code, _, err = run_cli(["fit", *base, "--model.learn.length.power", "1"], capsys)
    assert code == 0, err
    code, _, err = run_cli(["fit", *base, "--model.learn.length.target", "0"], capsys)
    assert code == 2
    assert "learn.length.target must be a share of the budget above 0 and at most 1, but is 0" in err
