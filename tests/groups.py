"""Made-up groups of completions and their scores."""

from __future__ import annotations

import torch

from squish_pl.budget import Budget
from squish_pl.types import Document, Finish, Prompt, Rollouts, Scores


def make_scores(score, novel=None, within=None, information=10.0, **measures):
    """Measures are given by their names, a space written as an underscore."""
    score = torch.tensor(score, dtype=torch.float64)
    novel = score if novel is None else torch.tensor(novel, dtype=torch.float64)
    within = torch.ones(len(score), dtype=torch.bool) if within is None else torch.tensor(within)
    measured = {name.replace("_", " "): torch.tensor(v, dtype=torch.float64) for name, v in measures.items()}
    return Scores(score, novel, score * information, information, within, torch.zeros(len(score), 1), measured)


def make_group(lengths, prompt_length=3, summaries=None, finish=None, entropies=None, source=""):
    """Completions of these lengths with token ids 0, 1, 2, ..."""
    width = max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    return Rollouts(
        Prompt(Document("d", source=source), Budget.parse("9 chars"), "", tuple(range(prompt_length))),
        torch.arange(len(lengths) * width).reshape(len(lengths), width) * mask,
        mask,
        -torch.ones(len(lengths), width) * mask,
        torch.ones(len(lengths), width) * mask if entropies is None else torch.tensor(entropies),
        torch.tensor([int(end) for end in finish or [Finish.CLOSED] * len(lengths)]),
        ["s"] * len(lengths) if summaries is None else summaries,
    )
