"""What a class_path can name, told below the parser's own message about one that it cannot use."""

from __future__ import annotations

import re

_REWARDS = "Squish, SquishNovel, Measured, OwnInformation"
_MEASURES = (
    "Fair, Squish, Novel, SmoothNovel, AlignedNovel, BeyondCopying, Clipped, Positive, Support, WeakestSupport, "
    "SupportGain, Ending, Contrast, Harm, ShannonScore, Weighted"
)
_CONTENDERS = (
    "LocalModel, Endpoint, GivenSummaries, Opening, OriginalOpening, BestSentences, RandomSentences, Highlights, an "
    "attack of attacks.yaml"
)

#: last part of a key -> what it names, and which there are
_KINDS = {
    "contenders": ("contender", _CONTENDERS),
    "entropy": ("control of the entropy", "RepoR, EntropyBonus, Adapo, KlCov"),
    "loss": ("loss", "ClippedLoss"),
    "measure": ("measure", _MEASURES),
    "measures": ("measure", _MEASURES),
    "rewards": ("reward", _REWARDS),
}


def with_hint(message: str) -> str:
    """The parser's message, with the classes there are where the innermost key it names is one of theirs."""
    keys = re.findall(r'key "([^"]+)"', message)
    kind, names = _KINDS.get(keys[-1].rpartition(".")[2], ("", "")) if keys else ("", "")
    if not kind:
        return message
    return (
        f"{message}\nA {kind} has a class_path ({names}, or the import path of a class of your own) and the class's "
        "arguments under init_args"
    )
