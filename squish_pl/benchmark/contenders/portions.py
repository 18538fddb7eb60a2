"""What a local model writes at a time: all samples of a document and budget are a group, groups make portions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.records import Task
from squish_pl.budget import Budget
from squish_pl.lm.tokens import count_tokens
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.types import Document, Prompt


@dataclass(frozen=True, slots=True)
class Group:
    """A document under a budget; without its prompt, which for all documents together would fill the memory.

    Attributes:
        tasks: What is asked of it: all samples, or some.
        budget: The budget as a number of what it counts, whatever share it was.
        prompt_tokens: Tokens of the prompt.
        most: Tokens that a summary may take.
        room: Tokens that the prompt leaves of the model's context, beside a thought where the model thinks.
    """

    tasks: Sequence[Task]
    budget: Budget
    prompt_tokens: int
    most: int
    room: int

    @property
    def document(self) -> Document:
        """What is summarised."""
        return self.tasks[0].document

    @property
    def cap(self) -> int:
        """Most new tokens, a thought left out."""
        return min(self.most, self.room)


class Planner:
    """Makes groups of tasks, and their prompts; it counts the tokens of a document once for all its budgets.

    Args:
        template: Wording and tags.
        tokenizer: The model's.
        counter: Counts budgets in tokens: the reference's tokenizer.
        context: The longest row the model can read, tokens.
        max_new_tokens: Most tokens of a summary; None lets its budget decide.
    """

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: PreTrainedTokenizerBase,
        counter: PreTrainedTokenizerBase,
        context: int,
        max_new_tokens: int | None,
    ) -> None:
        self.template, self.tokenizer, self.counter = template, tokenizer, counter
        self.context, self.max_new_tokens = context, max_new_tokens
        self._own_tokens = cache(partial(count_tokens, tokenizer))
        self._budget_tokens = self._own_tokens if counter is tokenizer else cache(partial(count_tokens, counter))
        self._frame_tokens = cache(partial(_frame_tokens, template, tokenizer))

    def groups(self, tasks: Sequence[Task]) -> list[Group]:
        """The tasks by document and budget."""
        together: dict[tuple[str, str], list[Task]] = {}
        for task in tasks:
            together.setdefault((task.document.text, task.budget), []).append(task)
        return [self._group(members) for members in together.values()]

    def prompt(self, group: Group) -> Prompt:
        """What the model reads for a group: `prompt_tokens` tokens."""
        return self.template.build(group.document, group.budget, self.tokenizer)

    def _group(self, tasks: Sequence[Task]) -> Group:
        text, budget = tasks[0].document.text, Budget.parse(tasks[0].budget)
        length = self._budget_tokens(text) if budget.unit.counts_tokens else budget.length(text)
        limit = budget.limit_of(length)
        # the template would count the tokens each time, and with the model's own tokenizer
        budget = Budget(Fraction(limit), budget.unit.absolute)
        tokens = self._frame_tokens(budget) + self._own_tokens(text)
        most = self._most(text, limit, length) if self.max_new_tokens is None else self.max_new_tokens
        return Group(tasks, budget, tokens, most, self.context - tokens - self.template.thought_tokens)

    def _most(self, text: str, limit: int, length: int) -> int:
        """Twice what the document's own words take at the budget's length, and a closing tag, as a power of two.

        Few summaries come near it, since one that has outgrown its budget ends before. A power of two, for many groups
        to have the same.
        """
        tokens = limit * self._own_tokens(text) // length if length else limit
        return int(max(64, 1 << (2 * tokens + 16).bit_length()))


def _frame_tokens(template: PromptTemplate, tokenizer: PreTrainedTokenizerBase, budget: Budget) -> int:
    """Tokens around the document; its own are encoded apart from them, so that the two add up."""
    return len(template.build(Document(""), budget, tokenizer).token_ids)


def portions(groups: Sequence[Group], size: int) -> Iterator[list[Group]]:
    """Groups in portions of a size, short prompts first.

    All caps of a portion are the same: if one followed from its neighbours, so would what is written under it.
    """
    ordered = sorted(groups, key=lambda group: (group.cap, group.prompt_tokens))
    for _, members in groupby(ordered, key=lambda group: group.cap):
        alike = list(members)
        yield from (alike[first : first + size] for first in range(0, len(alike), size))
