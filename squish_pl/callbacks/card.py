"""The model card beside an adapter: how it was trained and scored."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from squish_pl.budget import Budget
from squish_pl.lm.loading import PACKAGE_PREFIX
from squish_pl.markdown import escape
from squish_pl.module import SquishModule
from squish_pl.rl.validation import budgets_of, estimate_of, keys_of
from squish_pl.score.baselines import lead_key
from squish_pl.score.measures.base import score_title
from squish_pl.types import Document

_CARD = """---
base_model: {base}
library_name: peft
pipeline_tag: summarization
tags: [lora, squish, summarization, reinforcement-learning]
widget:
- text: {widget}
---

# A summarising adapter for {base}

A LoRA adapter trained with squish-pl: a group-relative policy gradient on SQUISH, the share of a document's information
(under the frozen base model) that a length-capped summary saves.

```python
{loading}
```

## Score after round {round}

{scores}

A verbatim copy of a document's opening scores high on SQUISH; SQUISH-novel counts no copied passages. Compare both.
Brackets hold 95 % bootstrap intervals over documents; unparsable, empty and over-budget summaries count as 0.

## Training

{settings}

## How to prompt it

The text below, with {{document}} and {{limit}} filled in, {chat}, followed by `{open_tag}`.
{thought}The summary ends at `{close_tag}`.

```text
{instruction}
```
"""


_LOADING = """from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({arguments})
model = PeftModel.from_pretrained(base, "path/to/this/folder")"""

# files inside a Python package have no name that transformers knows
_LOADING_PACKAGE = """import torch
from peft import PeftModel
from squish_pl.lm.loading import load_model

base = load_model({base!r}, torch.float32, gguf_file={gguf_file!r})
model = PeftModel.from_pretrained(base, "path/to/this/folder")"""

_CHAT = {
    "always": "as the user's message in the tokenizer's chat template",
    "auto": "as the user's message in the tokenizer's chat template where it has one",
    "never": "after the tokenizer's beginning token where it has one",
}


_THOUGHT = "The model then thinks, in at most {most} tokens up to `{close_tag}`, and writes the summary.\n"


def model_card(module: SquishModule, documents: str, figures: Mapping[str, float]) -> str:
    """The card's text (Markdown with YAML front matter)."""
    most, thinking = module.rollout.max_new_tokens, module.prompt.thinking
    settings = {
        "documents": documents,
        "rounds": module.round,
        "group size": module.rollout.group_size,
        "policy passes per round": module.learn.policy_passes,
        "budgets": ", ".join(module.rollout.budgets),
        **({"curriculum": _curriculum(module)} if module.rollout.curriculum else {}),
        "rewards": " + ".join(_described(reward) for reward in module.rewards),
        "invalid summaries earn": module.learn.invalid.earns,
        "advantage": module.learn.advantage,
        "loss": _described(module.loss),
        **({} if module.entropy is None else {"entropy control": _described(module.entropy)}),
        "learning rate": module.optimizer.learning_rate,
        "longest completion": "as its budget takes" if most is None else f"{most} tokens",
        "temperature": module.rollout.temperature,
        **({} if module.rollout.top_k is None else {"drawn among the likeliest": module.rollout.top_k}),
    }
    if module.warm_start.rounds:
        settings["warm start"] = module.warm_start.describe(module.rollout.group_size)
    return _CARD.format(
        base=module.base_model.base.replace('"', ""),
        widget=json.dumps(_widget(module)),  # JSON's strings are YAML's
        round=module.round,
        scores=score_table(figures),
        settings="\n".join(f"- {name}: {escape(str(value))}" for name, value in settings.items()),
        loading=_loading(module),
        chat=_CHAT[module.prompt.chat],
        open_tag=module.prompt.open_tag if thinking is None else thinking.open_tag,
        thought="" if thinking is None else _THOUGHT.format(close_tag=thinking.close_tag, most=thinking.max_tokens),
        close_tag=module.prompt.close_tag,
        instruction=module.prompt.instruction + ("" if thinking is None else thinking.instruction),
    )


_EXAMPLE = (
    "The ferry to the island left before dawn on Tuesday with 31 passengers and a goat. By noon the harbour master had "
    "called every captain on her list, and each of them was at home. The boat was found the next evening in a northern "
    "bay, its tank full and its lamps lit."
)


def _widget(module: SquishModule) -> str:
    """The prompt of a short document, as the model reads it."""
    return module.prompt.build(Document(_EXAMPLE), Budget.parse("100 chars"), module.tokenizer).text


def _described(component: object) -> str:
    """A class and its settings: "ClippedLoss(low=0.2, high=0.3)"."""
    settings = ", ".join(f"{name}={value}" for name, value in vars(component).items() if not name.startswith("_"))
    return f"{type(component).__name__}({settings})"


def _curriculum(module: SquishModule) -> str:
    return ", ".join(f"{budget} from round {start}" for start, budget in module.rollout.curriculum)


def _loading(module: SquishModule) -> str:
    model = module.base_model
    if model.base.startswith(PACKAGE_PREFIX):
        return _LOADING_PACKAGE.format(base=model.base, gguf_file=model.gguf_file)
    options = {"revision": model.revision, "gguf_file": model.gguf_file}
    arguments = [repr(model.base), *(f"{name}={value!r}" for name, value in options.items() if value)]
    return _LOADING.format(arguments=", ".join(arguments))


def score_table(figures: Mapping[str, float]) -> str:
    """All scores of the policy and of the copying baseline, a row a budget (Markdown)."""
    budgets = budgets_of(figures)
    if not budgets:
        return "Not validated yet."
    own = keys_of(figures)
    heads = [score_title(key) for key in own]
    heads += [f"copied opening: {'SQUISH' if key == 'squish' else key}" for key in own]
    keys = [*own, *map(lead_key, own)]
    rows = [f"| budget | {' | '.join(heads)} |", "|---" * (len(keys) + 1) + "|"]
    for budget in budgets:
        found = [estimate_of(figures, key, budget) for key in keys]
        cells = ["–" if math.isnan(one.mean) else one.text(interval_digits=4) for one in found]
        rows.append(f"| {budget} | " + " | ".join(cells) + " |")
    return "\n".join(rows)
