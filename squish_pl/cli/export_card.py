"""The model card of a merged model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from squish_pl.callbacks.card import score_table
from squish_pl.lm.loading import PACKAGE_PREFIX, BaseModel
from squish_pl.policy.prompts import PromptTemplate

_CARD = """---
{front}library_name: transformers
pipeline_tag: text-generation
tags: [squish, summarization, reinforcement-learning]
---

# {base} that summarises

{base} with a LoRA adapter merged into it ({dtype}), trained with squish-pl: a group-relative policy gradient on SQUISH,
the share of a document's information (under the frozen base model) that a length-capped summary saves. The base's
licence holds for these weights too.

## How to use it

The chat template writes the request around a document when it is told the `limit`, opens `{open_tag}`, and leaves the
rest to the model; the summary ends at `{close_tag}`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"  # or its name on the Hub
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
chat = [{{"role": "user", "content": document}}]
inputs = tokenizer.apply_chat_template(
    chat, limit="412 characters", add_generation_prompt=True, return_tensors="pt", return_dict=True
)
written = model.generate(**inputs, tokenizer=tokenizer)[0, inputs["input_ids"].shape[1] :]
summary = tokenizer.decode(written, skip_special_tokens=True).partition({close_tag!r})[0].strip()
```

`generate` needs the tokenizer to know where the closing tag is. Servers take `limit` as `chat_template_kwargs`, and the
closing tag as `stop`.

## Score{round}

{scores}

A verbatim copy of a document's opening scores high on SQUISH; SQUISH-novel counts no copied passages. Compare both.
Brackets hold 95 % bootstrap intervals over documents; unparsable, empty and over-budget summaries count as 0.

## The request

{chat}, with the document and the limit filled in:

```text
{instruction}
```
"""


def export_card(base: BaseModel, prompt: PromptTemplate, training: Mapping[str, Any], dtype: str, name: str) -> str:
    """The card's text (Markdown with YAML front matter).

    Args:
        base: What the adapter was merged into.
        prompt: How the policy was asked.
        training: What the adapter's folder says of its training.
        dtype: Of the weights.
        name: The model's name.
    """
    on_hub = not base.base.startswith(PACKAGE_PREFIX) and not Path(base.base).expanduser().exists()
    scores = training.get("scores")
    round_ = training.get("round")
    return _CARD.format(
        front=f"base_model: {base.base}\nbase_model_relation: finetune\n" if on_hub else "",
        base=base.title,
        dtype=dtype,
        round=f" after round {round_}" if isinstance(round_, int) else "",
        scores=score_table(scores) if isinstance(scores, dict) else "Not validated yet.",
        open_tag=prompt.open_tag,
        close_tag=prompt.close_tag,
        instruction=prompt.instruction,
        chat="As plain text" if prompt.chat == "never" else "As the user's message in the base's chat template",
    )
