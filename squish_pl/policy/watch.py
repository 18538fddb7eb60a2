"""Reads a completion as it grows: where its thought ends, and when and why it has to end itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.reading import Pieces, room_left
from squish_pl.types import Finish, Prompt, Thoughts


@dataclass
class Completion:
    """A row as it grows.

    `thought` is how many of its tokens are its thought, once that is closed; `room` what its summary can grow by before
    it has to be read again.
    """

    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finish: Finish | None = None
    thought: int = 0
    room: int = 0

    def add(self, token: int, log_prob: float, entropy: float) -> None:
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        self.entropies.append(entropy)


def completion_text(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], template: PromptTemplate | None = None
) -> str:
    """Generated tokens as text, special ones left out, but for the one that closes the template's thought."""
    tag = template.thinking.close_tag if template is not None and template.thinking is not None else ""
    return _text(tokenizer, token_ids, tag, _special_id(tokenizer, tag))


def _text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], tag: str, tag_id: int | None) -> str:
    ids = list(token_ids)
    if tag_id is not None and tag_id in ids:
        place = ids.index(tag_id)
        return _text(tokenizer, ids[:place], "", None) + tag + _text(tokenizer, ids[place + 1 :], "", None)
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _special_id(tokenizer: PreTrainedTokenizerBase, tag: str) -> int | None:
    """The id of a tag that decoding would leave out; None where it is text."""
    added = tokenizer.added_tokens_decoder if tag else {}
    return next((id for id, token in added.items() if token.special and token.content == tag), None)


class Watch:
    """Reads a row's text as it grows and tells when it has to end."""

    def __init__(
        self,
        prompt: Prompt,
        template: PromptTemplate,
        tokenizer: PreTrainedTokenizerBase,
        counter: PreTrainedTokenizerBase | None = None,
        ends: Iterable[int] = (),
        pieces: Pieces | None = None,
    ) -> None:
        self.prompt, self.template, self.tokenizer = prompt, template, tokenizer
        self.counter = tokenizer if counter is None else counter
        self.limit = prompt.budget.limit(prompt.document.text, self.counter)
        self.end_tokens = {tokenizer.eos_token_id, *ends}
        self.pieces = Pieces(tokenizer, self.counter, template.close_tag) if pieces is None else pieces
        self._tag = template.thinking.close_tag if template.thinking is not None else ""
        self._tag_id = _special_id(tokenizer, self._tag)
        self._window = 2 * len(self._tag.encode())  # tokens that hold the tag: each of its own has a byte or more

    def text(self, completion: Completion) -> str:
        """What the completion says, from where its closed thought ends."""
        start = max(0, completion.thought - self._window)
        return self._read(completion.tokens[start:])

    def finish(self, completion: Completion, cap: int) -> Finish | None:
        """Why a completion ends here, under a cap on thought and summary together; None if it goes on.

        The summary is read where its last token can end it, see `reading`.
        """
        tokens = completion.tokens
        ended = tokens[-1] in self.end_tokens
        if self.template.thinking is not None and not completion.thought:
            if self._tag in self._read(tokens[-self._window :]):
                completion.thought = len(tokens)
            elif ended:
                return Finish.ENDED
            else:
                return Finish.THOUGHT if len(tokens) >= self.template.thought_tokens else None
        written = len(tokens) - completion.thought
        capped = Finish.CAPPED if written >= cap - self.template.thought_tokens else None
        unit = self.prompt.budget.unit
        completion.room -= self.pieces.most(tokens[-1], unit)
        if completion.room >= 0 and not ended and not self.pieces.may_close(tokens[-1]):
            return capped
        text = self.text(completion)
        if self.template.parse(text, ended) is not None:
            return Finish.CLOSED
        if ended:
            return Finish.ENDED
        settled, length = self.measure(text)
        if length > self.limit:
            return Finish.OUTGROWN
        completion.room = room_left(self.pieces, unit, self.limit, text, settled, length)
        return capped

    def measure(self, text: str) -> tuple[str, int]:
        """(the part of an unfinished summary that is certain to stay, its length in the budget's unit)."""
        written = self.template.written_so_far(text)
        if self.prompt.budget.unit.counts_tokens:
            # the last word's tokens can still merge with what follows; earlier words' tokens are settled
            words = written.rsplit(maxsplit=1)
            written = words[0] if len(words) > 1 else ""
        return written, self.prompt.budget.length(written, self.counter)

    def summary(self, completion: Completion) -> str | None:
        if completion.finish != Finish.CLOSED:
            return None
        return self.template.parse(self.text(completion), ended=completion.tokens[-1] in self.end_tokens)

    def thoughts(self, completions: Sequence[Completion]) -> Thoughts | None:
        if self.template.thinking is None:
            return None
        lengths = [completion.thought or len(completion.tokens) for completion in completions]
        texts = [
            self.template.thought(self._read(completion.tokens[:length]))
            for completion, length in zip(completions, lengths, strict=True)
        ]
        return Thoughts(torch.tensor(lengths), texts)

    def _read(self, token_ids: Sequence[int]) -> str:
        return _text(self.tokenizer, token_ids, self._tag, self._tag_id)
