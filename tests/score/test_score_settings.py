"""Settings of a scorer."""

from __future__ import annotations

from squish_pl.score.settings import ScoreSettings
from squish_pl.score.template import ScoreTemplate


def test_every_problem_is_named() -> None:
    found = ScoreSettings(ScoreTemplate(frame="no field"), novel_ngram=0, batch_tokens=-1).problems()
    assert len(found) == 3
    assert "score.template.frame must hold {summary} exactly once" in found[0]
    assert found[1:] == [
        "score.novel_ngram must be at least 1, but is 0",
        "score.batch_tokens must be at least 1, but is -1",
    ]
    assert ScoreSettings().problems() == []
