"""Made-up findings of a meta-evaluation, small enough to reckon by hand."""

from __future__ import annotations

import math

import torch

from squish_pl.benchmark.meta_run import MetaFindings, compare_measures
from squish_pl.benchmark.ratings.rated import RatedDocument, Ratings

NAN = math.nan
SYSTEMS = ("lead", "small", "large")


def findings(strange: str = "", documents: int = 6) -> MetaFindings:
    """Two measures over two files: one with three systems and two aspects, one without systems.

    "exact" follows the first aspect, "contrary" does the opposite.
    """
    scores = [{f"relevance{strange}": float(r), f"fluency{strange}": 3.0} for r in (1, 2, 4)]
    names = tuple(name + strange for name in SYSTEMS)
    ids = [f"d{number}{strange}" for number in range(documents)]
    texts = ("a", "b", "c")
    one = Ratings(f"one{strange}.jsonl", tuple(RatedDocument(id, "a text", texts, tuple(scores), names) for id in ids))
    overall = tuple({f"overall{strange}": float(rating)} for rating in (5, 1, 3))
    two = Ratings(f"two{strange}.csv", (RatedDocument("e", "text", texts, overall, (None,) * 3),))
    exact, contrary = torch.tensor([0.0, 0.5, 1.0]).double(), torch.tensor([0.5, 0.25, NAN]).double()
    values = {
        one.name: {f"exact{strange}": [exact] * documents, f"contrary{strange}": [-exact] * documents},
        two.name: {f"exact{strange}": [exact], f"contrary{strange}": [contrary]},
    }
    facts = {"max_tokens": 96, "frame": f"Sum{strange}: {{summary}}", "squish-pl": "0.1"}
    files = [one, two]
    return MetaFindings(f"a reference{strange}", facts, files, values, compare_measures(files, values))
