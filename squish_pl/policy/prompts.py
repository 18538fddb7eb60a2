"""Prompts: what the policy reads, and how its answer is read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Optional

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, first_line
from squish_pl.lm.tokens import encode, encode_markup
from squish_pl.policy.thinking import Thinking
from squish_pl.types import Document, Prompt

log = logging.getLogger(__name__)

DOCUMENT_FIELD, LIMIT_FIELD, TARGET_FIELD = "{document}", "{limit}", "{target}"
_SENTINEL = "\ue000document\ue000"  # private-use characters, to find the document's place in a rendered chat
_NO_THINKING = {"enable_thinking": False, "thinking": False}  # as chat templates call it
_THINKING = {"enable_thinking": True, "thinking": True}
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
    before. With `thinking` the prompt ends by opening a thought instead, and the policy writes both of the summary's
    tags.

    Attributes:
        instruction: The request, with the fields {document}, {limit} ("412 characters") and, if wanted, {target}: nine
            tenths of the limit ("370 characters").
        open_tag: Ends the prompt. Behind a thought the policy writes it, or leaves it out.
        close_tag: Ends the summary; the policy has to write it.
        chat: "auto" uses the tokenizer's chat template where it has one; "never" prompts a base model.
        system: System message of a chat; none if empty.
        end_token_closes: Let the model's end token close the summary too.
        thinking: Let the policy think before it writes: `{max_tokens: 256}`; by default it does not.
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
    thinking: Optional[Thinking] = field(default=None, repr=False)

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [
            f"prompt.instruction must hold {field} {times}, but holds it {self.instruction.count(field)} times"
            for field, times, wrong in (
                (DOCUMENT_FIELD, "exactly once", self.instruction.count(DOCUMENT_FIELD) != 1),
                (LIMIT_FIELD, "at most once", self.instruction.count(LIMIT_FIELD) > 1),
                (TARGET_FIELD, "at most once", self.instruction.count(TARGET_FIELD) > 1),
            )
            if wrong
        ]
        if not self.close_tag.strip():
            found.append("prompt.close_tag must not be empty: it ends a summary")
        if self.thinking is not None:
            found += [f"prompt.thinking.{problem}" for problem in self.thinking.problems()]
        return found

    @property
    def thought_tokens(self) -> int:
        """Most tokens of a thought; 0 without thinking."""
        return 0 if self.thinking is None else self.thinking.max_tokens

    @property
    def written_tags(self) -> str:
        """The tags that the policy writes around a summary; without thinking the prompt holds the first one."""
        return self.close_tag if self.thinking is None else self.open_tag + self.close_tag

    def build(self, document: Document, budget: Budget, tokenizer: PreTrainedTokenizerBase) -> Prompt:
        """Writes the prompt for a document under a budget.

        The document's own tokens are encoded apart from the markup around it, so a document that spells out a
        control token ("<|im_end|>") cannot end the turn.

        Raises:
            ConfigError: chat is "always" and the tokenizer has no chat template, or its template does not take the
                request, or not with a system message, or opens a thought with another tag than `thinking`.
        """
        request = self.request(budget, budget.limit(document.text, tokenizer), _SENTINEL)
        chat = self._uses_chat(tokenizer)
        if self.thinking is not None:
            frame = self._open_frame(request + self.thinking.instruction, self.thinking, tokenizer, chat)
        else:  # an exported policy's chat template opens the tag itself
            frame = self._chat(request, tokenizer) if chat else _base(request, tokenizer)
            frame = frame.removesuffix(self.open_tag) + self.open_tag
        before, after = frame.split(_SENTINEL)
        token_ids = (
            *encode_markup(tokenizer, before),
            *encode(tokenizer, document.text),
            *encode_markup(tokenizer, after),
        )
        return Prompt(document, budget, before + document.text + after, token_ids)

    def messages(self, document: str, budget: Budget, limit: int) -> list[dict[str, str]]:
        """The chat that asks for a summary, for whoever applies a chat template elsewhere.

        Args:
            document: The text to summarise.
            budget: Names the unit of the limit.
            limit: The longest summary, in that unit.
        """
        return self._messages(self.request(budget, limit, document))

    def _messages(self, request: str) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": request}]

    def request(self, budget: Budget, limit: int, document: str) -> str:
        """The instruction, filled in."""
        limits = {LIMIT_FIELD: limit, TARGET_FIELD: limit * 9 // 10}
        worded = self.instruction
        for name, length in limits.items():
            worded = worded.replace(name, budget.describe(length))
        return worded.replace(DOCUMENT_FIELD, document)

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

    def _open_frame(self, request: str, thinking: Thinking, tokenizer: PreTrainedTokenizerBase, chat: bool) -> str:
        """The prompt up to where the thought begins."""
        frame = self._render(request, tokenizer, **_THINKING) if chat else _base(request, tokenizer)
        opened = _open_thought(frame, request) if chat else None
        if opened is None:
            return f"{frame}{thinking.open_tag}\n"
        if opened != thinking.open_tag:
            tags = f"prompt.thinking.open_tag to {opened} and close_tag to {THOUGHTS[opened]}"
            raise ConfigError([f"the model's chat template opens a thought with {opened}: set {tags}"])
        return frame

    def _render(self, request: str, tokenizer: PreTrainedTokenizerBase, **settings: Any) -> str:
        advice = "leave prompt.system empty, or set prompt.chat to never" if self.system else "set prompt.chat to never"
        try:
            frame = tokenizer.apply_chat_template(
                self._messages(request), tokenize=False, add_generation_prompt=True, **settings
            )
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
        """The summary in a completion, stripped; None where it was never closed, nor the thought before it.

        The first closing tag ends the thought, and what it drafts is no summary. Behind it the last summary counts,
        from its opening tag on where there is one.

        Args:
            completion: Generated text, end token removed.
            ended: Whether the model wrote its end token.
        """
        answer = self._behind_thought(completion)
        if answer is None:
            return None
        *closed, rest = answer.split(self.close_tag)
        if not closed and not (ended and self.end_token_closes):
            return None
        if self.thinking is None:
            return (closed[0] if closed else rest).strip()
        return self._opened(closed[-1] if closed else rest).strip()

    def written_so_far(self, completion: str) -> str:
        """The shortest text that the summary of an unfinished completion can still turn out to be.

        White space at the end and the beginning of a tag may yet be taken off, as may a character of which only some
        bytes are there. Nothing is written as long as a thought is open; behind it, what has no opening tag yet is the
        summary.
        """
        text = (self._behind_thought(completion) or "").rstrip("\ufffd")
        tags = [self.close_tag]
        if self.thinking is not None:
            text = self._opened(text)
            tags.append(self.open_tag)
        begun = max(_begun(text, tag) for tag in tags)
        return text[: len(text) - begun].strip()

    def thought(self, completion: str) -> str:
        """The thought in a completion, stripped; all of it where it was never closed, nothing without thinking."""
        return "" if self.thinking is None else completion.partition(self.thinking.close_tag)[0].strip()

    def _behind_thought(self, completion: str) -> str | None:
        """A completion from its summary on, opening tag included; None while its thought is open."""
        if self.thinking is None:
            return completion
        _, closed, answer = completion.partition(self.thinking.close_tag)
        return answer if closed else None

    def _opened(self, text: str) -> str:
        """A summary behind a thought, from its last opening tag on where it has one."""
        return text.rpartition(self.open_tag)[2] if self.open_tag.strip() else text


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-n:])), 0)


def _base(request: str, tokenizer: PreTrainedTokenizerBase) -> str:
    return (tokenizer.bos_token or "") + request


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
