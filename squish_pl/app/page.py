"""The page's HTML: one file, made of the report's style and drawing and of its own script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from squish_pl.benchmark.report.page_template import filled
from squish_pl.score.measures.base import score_title

TITLE = "Try a summary"


def app_page(facts: Mapping[str, str], scores: Sequence[str], has_adapter: bool, budget: str = "10%") -> str:
    """The page.

    Args:
        facts: Shown below its heading.
        scores: Keys of the scores, in their order.
        has_adapter: Whether there is a model after training.
        budget: What is in the budget's field at first.
    """
    return "".join(
        filled(
            "app.html.j2",
            TITLE,
            facts,
            ["page_drawing.js", "app.js"],
            ["app.css"],
            home="squish_pl.app",
            index={"scores": [[key, score_title(key)] for key in scores], "adapter": has_adapter},
            has_adapter=has_adapter,
            budget=budget,
        )
    )
