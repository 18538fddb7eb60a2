"""Where a document's tokens stand in its text."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from squish_pl.lm.tokens import encode, encode_with_offsets


def token_spans(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[tuple[int, int]], list[int]]:
    """Takes a text apart as a tokenizer does.

    Args:
        tokenizer: A slow one is asked by decoding, whose spans may be off by a character where it tidies up spaces.
        text: Any text.

    Returns:
        Spans [start, end) of characters that cover the text without overlapping, and for each token of `encode` the
        number of its span: tokens that share a character, as the bytes of an emoji do, share a span.
    """
    starts: list[int] = []
    span_of: list[int] = []
    for start in _starts(tokenizer, text):
        if not starts or start > starts[-1]:
            starts.append(start)
        span_of.append(len(starts) - 1)
    if not starts:
        return [], []
    starts[0] = 0  # what a tokenizer leaves out belongs to the token before it, at the beginning to the first
    return list(zip(starts, [*starts[1:], len(text)], strict=True)), span_of


def by_span(values: Sequence[float], span_of: Sequence[int], spans: int) -> list[float]:
    """Sums of the tokens' values in each span."""
    sums = [0.0] * spans
    for value, span in zip(values, span_of, strict=True):
        sums[span] += value
    return sums


def _starts(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    if not text:
        return []
    if not tokenizer.is_fast:
        ids = encode(tokenizer, text)
        before = [len(tokenizer.decode(ids[:count], skip_special_tokens=False)) for count in range(len(ids))]
        return [min(start, len(text) - 1) for start in before]
    return [int(start) for start, _ in encode_with_offsets(tokenizer, text).offset_mapping]
