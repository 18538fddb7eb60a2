"""What a local model writes at a time: all samples of a document and budget are a group, groups make portions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.records import Task
from squish_pl.policy import PromptTemplate
from squish_pl.score import Budget
from squish_pl.score.budget import BudgetUnit
from squish_pl.tokens import count_tokens
from squish_pl.types import Prompt


@dataclass(frozen=True)
class Group:
    """A document under a budget.

    Attributes:
        prompt: What the model reads.
        most: Tokens that a summary may take.
        room: Tokens that the prompt leaves of the model's context.
        tasks: What is asked of it: all samples, or some.
    """

    prompt: Prompt
    most: int
    room: int
    tasks: Sequence[Task]

    @property
    def cap(self) -> int:
        """Most new tokens."""
        return min(self.most, self.room)


@dataclass(frozen=True)
class Planner:
    """Makes groups of tasks.

    Attributes:
        template: Wording and tags.
        tokenizer: The model's.
        counter: Counts budgets in tokens: the reference's tokenizer.
        context: The longest row the model can read, tokens.
        max_new_tokens: Most tokens of a summary; None lets its budget decide.
    """

    template: PromptTemplate
    tokenizer: PreTrainedTokenizerBase
    counter: PreTrainedTokenizerBase
    context: int
    max_new_tokens: int | None

    def groups(self, tasks: Sequence[Task]) -> list[Group]:
        """The tasks by document and budget."""
        together: dict[tuple[str, str], list[Task]] = {}
        for task in tasks:
            together.setdefault((task.document.text, task.budget), []).append(task)
        return [self._group(members) for members in together.values()]

    def _group(self, tasks: Sequence[Task]) -> Group:
        document, budget = tasks[0].document, Budget.parse(tasks[0].budget)
        limit = budget.limit(document.text, self.counter)
        most = self._most(document.text, budget, limit) if self.max_new_tokens is None else self.max_new_tokens
        if budget.unit is BudgetUnit.TOKEN_SHARE:  # the template would count with the model's own tokenizer
            budget = Budget(Fraction(limit), BudgetUnit.TOKENS)
        prompt = self.template.build(document, budget, self.tokenizer)
        return Group(prompt, most, self.context - len(prompt.token_ids), tasks)

    def _most(self, text: str, budget: Budget, limit: int) -> int:
        """Twice what the document's own words take at the budget's length, and a closing tag, as a power of two.

        Few summaries come near it, since one that has outgrown its budget ends before. A power of two, for many groups
        to have the same.
        """
        length = budget.length(text, self.counter)
        tokens = limit * count_tokens(self.tokenizer, text) // length if length else limit
        return int(max(64, 1 << (2 * tokens + 16).bit_length()))


def portions(groups: Sequence[Group], size: int) -> Iterator[list[Group]]:
    """Groups in portions of a size, short prompts first.

    All caps of a portion are the same: if one followed from its neighbours, so would what is written under it.
    """
    ordered = sorted(groups, key=lambda group: (group.cap, len(group.prompt.token_ids)))
    for _, members in groupby(ordered, key=lambda group: group.cap):
        alike = list(members)
        yield from (alike[first : first + size] for first in range(0, len(alike), size))
