"""Prompts: what the policy reads, and how its answer is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import ConfigError
from squish_pl.lm.tokens import encode, encode_markup
from squish_pl.types import Document, Prompt

DOCUMENT_FIELD, LIMIT_FIELD = "{document}", "{limit}"
_SENTINEL = "\ue000document\ue000"  # private-use characters, to find the document's place in a rendered chat


@dataclass(frozen=True)
class PromptTemplate:
    """How a summary is asked for, and where it begins and ends.

    The prompt ends by opening the summary's tag, for base and chat models alike, so the first generated token
    belongs to the summary and the closing tag ends it.

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
            ConfigError: chat is "always" and the tokenizer has no chat template.
        """
        limit = budget.describe(budget.limit(document.text, tokenizer))
        request = self.instruction.replace(LIMIT_FIELD, limit).replace(DOCUMENT_FIELD, _SENTINEL)
        if self._uses_chat(tokenizer):
            messages = [{"role": "system", "content": self.system}] if self.system else []
            messages.append({"role": "user", "content": request})
            frame = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        else:
            frame = (tokenizer.bos_token or "") + request
        before, after = (frame + self.open_tag).split(_SENTINEL)
        token_ids = (
            *encode_markup(tokenizer, before),
            *encode(tokenizer, document.text),
            *encode_markup(tokenizer, after),
        )
        return Prompt(document, budget, before + document.text + after, token_ids)

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
