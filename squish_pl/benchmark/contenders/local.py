"""Local models as contenders: any causal language model of transformers, plain or with an adapter."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from squish_pl.benchmark.contenders.base import Contender
from squish_pl.benchmark.contenders.portions import Group, Planner, portions
from squish_pl.benchmark.file_hash import base_files_hash, content_hash
from squish_pl.benchmark.records import Answer, Outcome, Task, text_hash
from squish_pl.benchmark.references import pick_device
from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, ModelError, SquishError, first_line
from squish_pl.lm.device import release
from squish_pl.lm.language_model import context_length
from squish_pl.lm.loading import BaseModel, DType, resolve_base
from squish_pl.policy.adapter import is_adapter_folder
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.engine import Engine
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings
from squish_pl.policy.trials import decoding_problem
from squish_pl.policy.watch import completion_text
from squish_pl.seeds import derive_seed
from squish_pl.types import Document, Finish, Rollouts

_ADVICE = "lower samples, max_new_tokens or the documents' length, or take a smaller model"
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class LocalModel(Contender):
    """Writes with a local model, base or chat, as it is or with a PEFT adapter such as the trained policy.

    Greedy summaries are those of transformers' `generate` on the same prompt, sampled ones follow the model's own
    distribution, with nothing cut off. A summary depends on its document, budget and the settings, not on what else
    is asked, but for rounding: a model may compute a row differently, in the last digits, beside other rows.

    Args:
        base: Hub id, folder, or "package:NAME" for files inside an installed Python package.
        name: As the leaderboard shows it; by default the base's or the GGUF file's, and the adapter folder's.
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        adapter: Folder of a PEFT adapter.
        samples: Summaries of each document and budget; they share the prompt's pass.
        prompt: Wording and tags; the prompt ends with the opening tag. With `thinking` the model thinks before it
            writes, in `prompt.thinking.max_tokens` tokens at most; what it thinks is not part of the summary.
        temperature: 0 takes the likeliest token.
        max_new_tokens: Most tokens of a summary; by default well over what its budget takes.
        rows: Most summaries written at a time. They are stored together, so a run that is killed loses so many.
        device: "auto" takes a GPU where there is one.
        seed: With document and budget it decides the draws.
        memory: What the model may take of the device's memory.
        attention: transformers' attn_implementation; "eager" for models without sdpa, such as Gemma 2 and gpt-oss.
    """

    in_portions = True

    def __init__(
        self,
        base: str,
        name: str | None = None,
        gguf_file: str | None = None,
        revision: str | None = None,
        dtype: DType = "auto",
        adapter: str | None = None,
        samples: int = 1,
        prompt: PromptTemplate = PromptTemplate(),
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        rows: int = 16,
        device: str = "auto",
        seed: int = 0,
        memory: MemorySettings = MemorySettings(),
        attention: str = "sdpa",
    ) -> None:
        self.base_model = BaseModel(base, gguf_file, revision, dtype, attention)
        parts = [self.base_model.title, *([Path(adapter).expanduser().resolve().name] if adapter else [])]
        super().__init__(name or " + ".join(parts), samples)
        self.adapter, self.prompt, self.temperature = adapter, prompt, temperature
        self.max_new_tokens, self.rows, self.device, self.seed = max_new_tokens, rows, device, seed
        self.memory = memory
        self._engine: Engine | None = None
        self._planned: Planner | None = None

    @property
    def identity(self) -> str:
        """Model, adapter, wording and sampling, as JSON; not what runs at a time, and of the device the dtype alone."""
        facts = self._model_facts | {
            "dtype": str(self.base_model.dtype_on(pick_device(self.device))),
            "attention": self.base_model.attention,
            "prompt": {key: value for key, value in asdict(self.prompt).items() if value is not None},
            "temperature": self.temperature,
            "max_new_tokens": self.max_new_tokens,
        }
        if self.temperature > 0:
            facts |= {"seed": self.seed, "samples": self.samples}  # all samples are drawn from one generator
        return json.dumps(facts, sort_keys=True)

    @cached_property
    def _model_facts(self) -> dict[str, object]:
        """Base and adapter: by what is in their files where these lie here, whatever their folders are called."""
        model = self.base_model
        facts: dict[str, object] = {"base": base_files_hash(model.base, model.gguf_file)}
        if facts["base"] is None:
            facts = {"base": model.base, "revision": model.revision, "gguf_file": model.gguf_file}
        if self.adapter is not None:
            facts["adapter"] = content_hash(Path(self.adapter).expanduser() / name for name in _ADAPTER_FILES)
        return facts

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = super().problems() + self._model_problems() + self.prompt.problems() + self.memory.problems()
        if not 0 <= self.temperature < math.inf:
            found.append(f"temperature must be a number of at least 0, but is {self.temperature}")
        if self.samples > 1 and self.temperature == 0:
            found.append(f"temperature must be above 0 for {self.samples} samples: at 0 they are all the same")
        if self.rows < max(1, self.samples):
            found.append(
                f"rows must be at least {max(1, self.samples)}, but is {self.rows}: "
                "the samples of a document are written together"
            )
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            found.append(f"max_new_tokens must be at least 1, but is {self.max_new_tokens}")
        return found

    def _model_problems(self) -> list[str]:
        model = self.base_model
        found = model.problems()
        if model.gguf_file and not found:
            folder = Path(resolve_base(model.base))
            if folder.is_dir() and not (folder / model.gguf_file).is_file():
                found.append(f"gguf_file: there is no file {model.gguf_file!r} in {model.base!r}")
        for name, pick in (("dtype", lambda: model.dtype_on("cpu")), ("device", lambda: pick_device(self.device))):
            try:
                pick()
            except ModelError as error:
                found.append(f"{name}: {error}")
        if self.adapter is not None:
            folder = Path(self.adapter).expanduser()
            if not is_adapter_folder(folder) or not (folder / "adapter_model.safetensors").is_file():
                files = " and ".join(_ADAPTER_FILES)
                found.append(f"adapter: expected a PEFT adapter folder (with {files}), but {self.adapter!r} is none")
        return found

    def check(self) -> None:
        """Reads configuration and tokenizer, and writes a prompt.

        Raises:
            SquishError: One of them cannot be had, or the chat template does not take the prompt.
        """
        _ = self._context, self._own_tokenizer

    def portions(self, tasks: Sequence[Task]) -> list[Sequence[Task]]:
        """What is written at a time: prompts of about the same length together."""
        groups = self._planner.groups(tasks)
        hopeless = [task for group in groups if group.room < 1 for task in group.tasks]
        dealt = [[task for group in portion for task in group.tasks] for portion in self._portions(groups)]
        return [hopeless, *dealt] if hopeless else [*dealt]

    def summarise(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        """Loads the model and answers portion by portion, prompts of about the same length together.

        Raises:
            ConfigError: The settings have problems.
            ModelError: The model or its adapter cannot be loaded, or cannot run.
        """
        if found := self.problems():
            raise ConfigError(found)
        planner = self._planner
        groups = planner.groups(tasks)
        # without the prompt's length: people count the answers that failed for the same reason
        reason = f"the prompt leaves no room in the model's {self._context} tokens"
        for group in (group for group in groups if group.room < 1):
            yield from ((task, Answer(outcome=Outcome.FAILED, reason=reason)) for task in group.tasks)
        for portion in self._portions(groups):
            yield from self._answers(planner, portion)

    def close(self) -> None:
        """Gives the model's memory back."""
        if self._engine is None:
            return
        backbone, self._engine = self._engine.backbone, None
        device = backbone.device
        # whoever still holds the model, such as an error's traceback, holds no weights any more
        backbone.to("meta")
        release(device)

    def _portions(self, groups: Sequence[Group]) -> list[list[Group]]:
        return list(portions([group for group in groups if group.room > 0], self.rows // self.samples))

    @property
    def _planner(self) -> Planner:
        """It remembers what it has counted, so it stays as long as the same tokenizer counts budgets."""
        own = self._own_tokenizer
        counter = own if self.tokenizer is None else self.tokenizer
        if self._planned is None or self._planned.counter is not counter:
            self._planned = Planner(self.prompt, own, counter, self._context, self.max_new_tokens)
        return self._planned

    @cached_property
    def _context(self) -> int:
        return context_length(self.base_model.load_config())

    @cached_property
    def _own_tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer = self.base_model.load_tokenizer()
        try:
            self.prompt.build(Document(""), Budget.parse("1 char"), tokenizer)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {problem}" for problem in error.problems) from None
        return tokenizer

    def _load(self) -> Engine:
        device = pick_device(self.device)
        model = self.base_model.load(device, self._own_tokenizer)
        try:
            backbone = Backbone(model, self._own_tokenizer, None, self.adapter, self.base_model.base).to(device)
            backbone.requires_grad_(False)  # the adapter too: there is nothing to learn
            costs = Costs(backbone)
            plan = MemoryPlan.for_writing(costs, replace(self.memory, max_rows=self.rows))
            engine = Engine(backbone, plan, self.prompt, passes=self.memory.passes, advice=_ADVICE)
            engine.get_ready()
            costs.rollout(1, 1, 1, 1)  # counts the model's passes, here where a failure is explained
            problem = decoding_problem(backbone.policy)
        except SquishError:
            raise
        except Exception as error:  # strange models fail in many ways
            problem = f"{type(error).__name__}: {first_line(error)}"
        if problem is not None:
            raise ModelError(f"{self.name}: a {type(model).__name__} cannot be made to write here: {problem}")
        return engine

    def _answers(self, planner: Planner, portion: Sequence[Group]) -> list[tuple[Task, Answer]]:
        if self._engine is None:
            self._engine = self._load()
        start = time.monotonic()
        written = self._write(self._engine, planner, portion)
        seconds = (time.monotonic() - start) / (len(portion) * self.samples)
        return [
            (task, replace(self._answer(group, rollouts, task.sample), seconds=seconds))
            for group, rollouts in zip(portion, written, strict=True)
            for task in group.tasks
        ]

    def _write(self, engine: Engine, planner: Planner, portion: Sequence[Group]) -> list[Rollouts | str]:
        """All samples of each group, or why there are none."""
        settings = SamplingSettings(self.temperature, portion[0].cap)
        seeds = [derive_seed(self.seed, text_hash(g.document.text), g.tasks[0].budget) for g in portion]
        prompts = [planner.prompt(group) for group in portion]
        try:
            return list(engine.sample(prompts, self.samples, settings, seeds, self.tokenizer))
        except SquishError as error:
            # of one document, perhaps: the others must not fail for it
            if len(portion) == 1:
                return [str(error)]
            return [self._write(engine, planner, [group])[0] for group in portion]

    def _answer(self, group: Group, rollouts: Rollouts | str, sample: int) -> Answer:
        if isinstance(rollouts, str):
            return Answer(outcome=Outcome.FAILED, reason=rollouts)
        mask = rollouts.mask[sample]
        if not bool(torch.isfinite(rollouts.log_probs[sample][mask]).all()):
            return Answer(outcome=Outcome.FAILED, reason="the model's logits are not finite: try another dtype")
        outcome, summary, reason, complete = Outcome.UNPARSABLE, None, "", True
        tag, finish = self.prompt.close_tag, Finish(int(rollouts.finish[sample]))
        if finish is Finish.CLOSED:
            outcome, summary = Outcome.WRITTEN, rollouts.summaries[sample]
        elif finish is Finish.OUTGROWN:
            text = completion_text(self._own_tokenizer, rollouts.token_ids[sample][mask].tolist(), self.prompt)
            outcome, summary, complete = Outcome.WRITTEN, self.prompt.written_so_far(text), False
        elif finish is Finish.THOUGHT:
            reason = f"the thought did not end within {self.prompt.thought_tokens} tokens"
        elif finish is Finish.ENDED:
            reason = f"the model ended without {tag}"
        elif group.cap < group.most:
            reason = f"the model's context was full before {tag}"
        else:
            reason = f"no {tag} within {group.cap} tokens"
        return Answer(
            outcome=outcome,
            summary=summary,
            complete=complete,
            reason=reason,
            prompt_tokens=group.prompt_tokens,
            completion_tokens=int(mask.sum()),
        )
