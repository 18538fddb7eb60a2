"""The frame in front of the document."""

from __future__ import annotations

import pytest

from squish_pl.score.template import ScoreTemplate


@pytest.mark.parametrize("frame", ["", "no field", "{summary}{summary}", "{ summary }"])
def test_a_frame_holds_the_field_once(frame: str) -> None:
    (problem,) = ScoreTemplate(frame=frame).problems()
    assert "exactly once" in problem
    assert repr(frame) in problem


def test_a_summary_is_put_in_as_it_is() -> None:
    template = ScoreTemplate(frame="<<{summary}>>")
    assert template.problems() == []
    assert template.render("") == "<<>>"
    assert template.render(" a {summary} \n") == "<< a {summary} \n>>"
