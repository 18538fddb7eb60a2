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


@pytest.mark.parametrize("frame", ["", "no field", "{document}{document}", "{ document }"])
def test_a_support_frame_holds_its_field_once(frame: str) -> None:
    (problem,) = ScoreTemplate(support_frame=frame).problems()
    assert "exactly once" in problem
    assert repr(frame) in problem


def test_a_document_is_put_in_as_it_is() -> None:
    assert ScoreTemplate(support_frame="<<{document}>>").render_support(" {document}\n") == "<< {document}\n>>"


def test_scores_are_kept_whatever_the_support_frame_is() -> None:
    """Stores and resumed runs know a template by how it looks, and the support frame takes no part in the score."""
    assert repr(ScoreTemplate(support_frame="<{document}>")) == repr(ScoreTemplate())
    assert ScoreTemplate(support_frame="<{document}>") != ScoreTemplate()
