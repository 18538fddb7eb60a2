"""Prompts: what the policy reads, and how its answer is read."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, first_line
from squish_pl.lm.tokens import encode, encode_markup
from squish_pl.types import Document, Prompt

log = logging.getLogger(__name__)

DOCUMENT_FIELD, LIMIT_FIELD = "{document}", "{limit}"
_SENTINEL = "\ue000document\ue000"  # private-use characters, to find the document's place in a rendered chat
_NO_THINKING = {"enable_thinking": False, "thinking": False}  # as chat templates call it
THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
}
"""Tags with which chat templates open a thought, and those that close it."""


@dataclass(frozen=True)
class PromptTemplate:
    """How a summary is asked for, and where it begins and ends.

    The prompt ends by opening the summary's tag, for base and chat models alike, so the first generated token
    belongs to the summary and the closing tag ends it. A thought that a chat template opens for the answer is closed
    before.

    Attributes:
        instruction: The request, with the fields {document} and {limit} ("412 characters").
        open_tag: Ends the prompt.
        close_tag: Ends the summary; the policy has to write it.
        chat: "auto" uses the tokenizer's chat template where it has one; "never" prompts a base model.
        system: System message of a chat; none if empty.
        end_token_closes: Let the model's end token close the summary too.
    """

    instruction: str = (
        "Article:\n{document}\n\nWrite a summary of the article in at most {limit}. Pack in as many of its specific "
        "facts as fit: who, what, where, when, how much. Put it between <summary> and </summary>.\n"
    )
    open_tag: str = "<summary>"
    close_tag: str = "</summary>"
    chat: Literal["auto", "always", "never"] = "auto"
    system: str = ""
    end_token_closes: bool = False

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [
            f"prompt.instruction must hold {field} {times}, but holds it {self.instruction.count(field)} times"
            for field, times, wrong in (
                (DOCUMENT_FIELD, "exactly once", self.instruction.count(DOCUMENT_FIELD) != 1),
                (LIMIT_FIELD, "at most once", self.instruction.count(LIMIT_FIELD) > 1),
            )
            if wrong
        ]
        if not self.close_tag.strip():
            found.append("prompt.close_tag must not be empty: it ends a summary")
        return found

    def build(self, document: Document, budget: Budget, tokenizer: PreTrainedTokenizerBase) -> Prompt:
        """Writes the prompt for a document under a budget.

        The document's own tokens are encoded apart from the markup around it, so a document that spells out a
        control token ("<|im_end|>") cannot end the turn.

        Raises:
            ConfigError: chat is "always" and the tokenizer has no chat template, or its template does not take the
                request, or not with a system message.
        """
        limit = budget.describe(budget.limit(document.text, tokenizer))
        request = self.instruction.replace(LIMIT_FIELD, limit).replace(DOCUMENT_FIELD, _SENTINEL)
        chat = self._uses_chat(tokenizer)
        frame = self._chat(request, tokenizer) if chat else (tokenizer.bos_token or "") + request
        # an exported policy's chat template opens the tag itself
        before, after = (frame.removesuffix(self.open_tag) + self.open_tag).split(_SENTINEL)
        token_ids = (
            *encode_markup(tokenizer, before),
            *encode(tokenizer, document.text),
            *encode_markup(tokenizer, after),
        )
        return Prompt(document, budget, before + document.text + after, token_ids)

    def _chat(self, request: str, tokenizer: PreTrainedTokenizerBase) -> str:
        """The chat up to where the model's answer begins, outside any thought."""
        frame = self._render(request, tokenizer)
        opened = _open_thought(frame, request)
        if opened is None:
            return frame
        what = f"{tokenizer.name_or_path or 'the model'}: the chat template opens {opened} for the answer"
        frame = self._render(request, tokenizer, **_NO_THINKING)
        still = _open_thought(frame, request)
        if still is None:
            _tell(f"{what}; it is told enable_thinking=false, and does not")
            return frame
        _tell(f"{what}; the thought is closed before the summary")
        return f"{frame.rstrip()}\n\n{THOUGHTS[still]}\n\n"

    def _render(self, request: str, tokenizer: PreTrainedTokenizerBase, **settings: Any) -> str:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": request})
        advice = "leave prompt.system empty, or set prompt.chat to never" if self.system else "set prompt.chat to never"
        try:
            frame = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **settings)
        except Exception as error:  # a chat template is a program that comes with the model
            reason = f"does not take the prompt ({first_line(error)})"
            raise ConfigError([f"the model's chat template {reason}: {advice}"]) from None
        if (times := str(frame).count(_SENTINEL)) != 1:
            reason = f"writes the document {times} times instead of once"
            raise ConfigError([f"the model's chat template {reason}: {advice}"])
        return str(frame)

    def _uses_chat(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        if self.chat == "always" and not tokenizer.chat_template:
            raise ConfigError(
                ["prompt.chat is 'always', but this tokenizer has no chat template: use 'auto' or 'never'"]
            )
        return self.chat != "never" and bool(tokenizer.chat_template)

    def parse(self, completion: str, ended: bool = False) -> str | None:
        """The summary in a completion, stripped; None where it was never closed.

        Args:
            completion: Generated text, end token removed.
            ended: Whether the model wrote its end token.
        """
        summary, closed, _ = completion.partition(self.close_tag)
        if closed or (ended and self.end_token_closes):
            return summary.strip()
        return None

    def written_so_far(self, completion: str) -> str:
        """The shortest text that the summary of an unfinished completion can still turn out to be.

        White space at the end and the beginning of a closing tag may yet be taken off, as may a character of which
        only some bytes are there.
        """
        text = completion.rstrip("\ufffd")
        for length in range(min(len(text), len(self.close_tag) - 1), 0, -1):
            if self.close_tag.startswith(text[-length:]):
                text = text[:-length]
                break
        return text.strip()


def _open_thought(frame: str, request: str) -> str | None:
    """The tag of a thought that is open where the answer begins; what the request itself says does not count."""
    behind = request.partition(_SENTINEL)[2].strip()
    tail = frame.partition(_SENTINEL)[2]
    start = tail.find(behind) + len(behind) if behind in tail else 0
    answer = tail[start:]
    return next((tag for tag, end in THOUGHTS.items() if answer.rfind(tag) > answer.rfind(end)), None)


@cache
def _tell(message: str) -> None:
    """Logs a line once."""
    log.info("%s", message)
