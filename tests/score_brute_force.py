"""SQUISH the slow way: one row at a time, whole logits, float64, and nothing of squish_pl.

Texts do not go through squish_pl's tokenisation: byte ids are looked up here, one byte at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

BEGIN, END = 256, 257  # <s> and </s> of the byte tokenizer
FRAME = "A summary of the article that follows:\n{summary}\n\nThe article:\n"
FAMILY = "\U0001f469‍\U0001f469‍\U0001f467"  # one glyph of five characters, two of them joiners


def _byte_signs() -> dict[int, str]:
    """GPT-2's printable sign for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    signs = {byte: chr(byte) for byte in printable}
    for count, byte in enumerate(byte for byte in range(256) if byte not in printable):
        signs[byte] = chr(256 + count)
    return signs


_IDS = {byte: number for number, (byte, _) in enumerate(sorted(_byte_signs().items(), key=lambda item: item[1]))}


def byte_ids(text: str) -> list[int]:
    """Token ids of a text under the byte tokenizer."""
    return [_IDS[byte] for byte in text.encode()]


@dataclass(frozen=True)
class Slow:
    """A summary's score and all that leads to it, float64."""

    information: float
    token_saved: Tensor
    copied: list[bool]

    @property
    def saved(self) -> float:
        return float(self.token_saved.sum())

    @property
    def score(self) -> float:
        return self.saved / self.information

    @property
    def novel_score(self) -> float:
        return sum(float(x) for x, c in zip(self.token_saved, self.copied, strict=True) if not c) / self.information


def slow_information(model: PreTrainedModel, prefix: Sequence[int], targets: Sequence[int]) -> Tensor:
    """[T] -ln p of each target behind the prefix and the targets before it."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prefix, *targets]]), use_cache=False).logits[0].double()
    log_p = torch.log_softmax(logits, dim=-1)
    return torch.stack([-log_p[len(prefix) + i - 1, target] for i, target in enumerate(targets)])


def slow_copied(document: Sequence[int], summary: Sequence[int], n: int) -> list[bool]:
    """Whether each document token lies in an n-gram that also stands in the summary, by the definition."""
    said = [tuple(summary[j : j + n]) for j in range(len(summary) - n + 1)]
    shared = [tuple(document[i : i + n]) in said for i in range(len(document) - n + 1)]
    return [any(shared[i] for i in range(max(0, t - n + 1), min(t, len(shared) - 1) + 1)) for t in range(len(document))]


def slow_squish(
    model: PreTrainedModel,
    document: str,
    summary: str,
    n: int = 4,
    start: int = BEGIN,
    frame: str = FRAME,
    ids: Callable[[str], list[int]] = byte_ids,
) -> Slow:
    """One summary's score; the summary is stripped first."""
    summary = summary.strip()
    before, after = frame.split("{summary}")
    targets = ids(document)
    alone = slow_information(model, [start], targets)
    behind = slow_information(model, [start, *ids(before + summary + after)], targets)
    return Slow(float(alone.sum()), alone - behind, slow_copied(targets, ids(summary), n))


def plain_ids(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """A tokenizer's ids of a text as plain text, by a direct call."""
    return lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


PIECES = [
    "the ",
    "ferry ",
    "left",
    " dawn",
    "quay. ",
    "\n",
    "  ",
    "é",
    "e\u0301",
    "\U0001f600",
    FAMILY,
    "東京",
    "1,234",
]


def random_text(draw: random.Random, pieces: int) -> str:
    """A text of so many pieces, with emoji, combining marks and spaces among them, and a letter at its end."""
    return "".join(draw.choices(PIECES, k=pieces)) + draw.choice("abcdef")


def random_summaries(draw: random.Random, document: str, count: int) -> list[str]:
    """Summaries of varied length: new texts, copies out of the document, and mixtures of both."""
    summaries = []
    for number in range(count):
        begin = draw.randrange(len(document))
        copy = document[begin : begin + draw.randint(2, 30)]
        text = random_text(draw, draw.randint(1, 12))
        summaries.append([text, copy + "!", text + copy, f"  {copy} {text}\n "][number % 4])
    return summaries
