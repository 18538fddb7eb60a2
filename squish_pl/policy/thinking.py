"""Thinking before the summary: how it is asked for, and how much of it there may be."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_TOKENS, MOST_TOKENS = 64, 1024


@dataclass(frozen=True)
class Thinking:
    """The policy thinks before it writes: <think> thought </think> <summary> summary </summary>.

    The prompt opens the thought, and the policy closes it and writes the summary with its tags. Only the summary counts
    for budget and score. A thought that does not close within its cap ends the completion, in training, validation and
    prediction alike: it is never closed from outside, and there is no summary.

    Attributes:
        max_tokens: Cap on a thought, its closing tag among them: 64 to 1,024. The summary has its own.
        instruction: Stands behind that of the prompt.
        open_tag: Ends the prompt, unless the chat template opens the thought itself.
        close_tag: Ends the thought; the policy has to write it.
    """

    max_tokens: int = 256
    instruction: str = "Before it, note the facts that matter most between <think> and </think>.\n"
    open_tag: str = "<think>"
    close_tag: str = "</think>"

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = []
        if not LEAST_TOKENS <= self.max_tokens <= MOST_TOKENS:
            found.append(f"max_tokens must be from {LEAST_TOKENS} to {MOST_TOKENS}, but is {self.max_tokens}")
        found += [
            f"{name} must not be empty: it {does} a thought"
            for name, tag, does in (("open_tag", self.open_tag, "begins"), ("close_tag", self.close_tag, "ends"))
            if not tag.strip()
        ]
        return found
