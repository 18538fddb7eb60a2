"""The summary in a chat model's whole answer, which may begin with a thought or a greeting."""

from __future__ import annotations

import re

from squish_pl.policy.prompts import PromptTemplate

_BEGIN, _END = "<think>", "</think>"
# a tag that is quoted in a sentence has a space or a quotation mark on both sides; one that ends a thought has not
_END_OF_THOUGHT = re.compile(rf"(?<![ \t\"'`(]){_END}|{_END}(?![ \t\"'`).,;:])")


def without_thought(text: str, template: PromptTemplate, bare: bool = False) -> str:
    """The answer behind the model's reasoning, which ends with </think> and stands before the summary.

    A </think> inside the summary is text. A server may have kept the <think> at the beginning to itself.

    Args:
        text: What the model wrote.
        template: Names the summary's tags.
        bare: Whether the answer has none.
    """
    if text.lstrip().startswith(_BEGIN):
        text = text.partition(_END)[2]
        if bare:
            return text
    if bare:
        found = _END_OF_THOUGHT.search(text)
        return text[found.end() :] if found else text
    for end in reversed([match.start() for match in re.finditer(_END, text)]):
        behind = text[end + len(_END) :]
        # what follows it must be an answer, unless there is none anywhere
        follows = template.open_tag in behind or template.open_tag not in text
        if follows and not _in_summary(text, end, template):
            return behind
    return text


def _in_summary(text: str, place: int, template: PromptTemplate) -> bool:
    """Whether a place lies between the tags of a summary. An opening tag that another one follows was only named."""
    opened = text.rfind(template.open_tag, 0, place)
    closed = text.find(template.close_tag, place)
    if opened < 0 or closed < 0 or template.close_tag in text[opened:place]:
        return False
    return not text[:opened].strip() or template.open_tag not in text[place:closed]


def find_summary(text: str, template: PromptTemplate) -> str | None:
    """The summary in an answer without its reasoning, stripped; None where it was never closed.

    The policy's prompts end with the opening tag; a chat model writes it, perhaps after a greeting that names it. One
    that begins a line begins the summary, and further ones are its text.
    """
    summary = template.parse(text)
    if summary is None:
        return None
    begins = re.search(rf"^[ \t]*{re.escape(template.open_tag)}", summary, re.MULTILINE)
    return summary[begins.end() :].strip() if begins else summary.rpartition(template.open_tag)[2].strip()
