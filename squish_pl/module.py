"""The LightningModule: the stages of a round in order, then the optimiser.

    DocumentBatch ─ budgets, prompts ─> [rollout] ─> Rollouts ─> [scoring] ─> rewards ─> advantages
                                           │ adapter on             │ adapter off
                                           v                        v
                        K x [policy pass: slices of rows, one optimiser step]   adapter on, gradients

What differs from the papers:
    - no KL penalty: the clip alone holds the policy back (as in DAPO); the reference only measures
    - the advantage is the reward minus its group's mean; dividing by the standard deviation is an option
    - a group counts by its tokens' mean, and every document of the batch counts the same
    - groups whose rewards are all equal are left out of the passes; they still count as documents
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Optional, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from squish_pl.checks import context_problems, module_problems
from squish_pl.engine import Engine
from squish_pl.errors import CheckpointError, ModelError, SquishError, report_problems
from squish_pl.language_model import context_length, load_config, load_model, load_tokenizer, pick_dtype
from squish_pl.learner import Learner, OldLogProbs
from squish_pl.memory.costs import Costs
from squish_pl.memory.planner import Checkpointing, MemoryPlan, MemorySettings
from squish_pl.optimizer import apply_settings, make_optimizer, state_on_device
from squish_pl.phases import POLICY, ROLLOUT, SCORING, PhaseClock
from squish_pl.policy import (
    Backbone,
    Compiling,
    Grouping,
    LoraSettings,
    PromptTemplate,
    SamplingSettings,
)
from squish_pl.policy.adapter import check_base
from squish_pl.rl import (
    ClipSettings,
    Normalisation,
    RewardSettings,
    group_advantages,
    group_rewards,
    make_experience,
    zero_spread,
)
from squish_pl.score import Budget, ScoreRequest, SquishScorer
from squish_pl.seeds import choose, derive_seed, random_state, restore_random_state
from squish_pl.settings import OptimizerSettings, ScoreSettings
from squish_pl.statistics import PassTotals, policy_figures, reward_figures, rollout_figures
from squish_pl.types import Document, DocumentBatch, Experience, Prompt, Rollouts, Scores
from squish_pl.validation import Baseline, Validated, gather_lines, summarise, validate_groups


class SquishModule(LightningModule):
    """Trains a LoRA adapter to write summaries that score well.

    Args:
        base: Base model: hub id, folder, or "package:NAME" for files inside an installed Python package.
        gguf_file: Name of a GGUF file in that folder or package.
        revision: Revision of a hub model.
        dtype: "auto" is bfloat16 on a GPU and float32 on a CPU.
        adapter: Folder of a PEFT adapter to start from instead of a new one.
        lora: A new adapter's settings.
        prompt: How a summary is asked for and where it ends.
        score: How it is scored.
        budgets: Drawn from, one for each document of a step: "10%", "500 chars", "5% tokens", "64 tokens".
        validation_budgets: Every validation document is summarised under each of them.
        group_size: Summaries a document in training.
        sampling: How they are drawn.
        validation_temperature: 0 takes the likeliest token.
        reward: What is rewarded.
        advantage: "mean" (reward minus group mean), or "mean_std" (divided by the group's deviation too).
        clip: The loss's clip.
        policy_passes: Optimiser steps on each batch of rollouts; `max_steps` of the trainer counts these.
        micro_batch_tokens: Most tokens in one forward and backward pass: as many groups, or completions of one group,
            as fit. Less where memory is short; changes memory and speed, never the gradient.
        grouping: "grouped" runs each prompt once for all its completions, exactly; "padded" once for each; "auto" is
            grouped wherever the model and device allow it.
        old_log_probs: "sampling" takes them as drawn; "first_pass" takes the first policy pass's, where sampling and
            training round differently (bfloat16), so that its ratio is exactly 1.
        optimizer: AdamW's settings.
        gradient_checkpointing: Layers that compute their activations again in backward instead of keeping them: "full"
            all, "selective" half of them, "none"; "auto" as few as fit into memory.
        memory: What the run may take of the device's memory.
        compile: torch.compile of every decoder layer and of the loss; "auto" on a GPU, where it is worth its minutes.
        attention: transformers' attn_implementation.
        seed: Of budgets and samples.
    """

    def __init__(
        self,
        base: str = "Qwen/Qwen3-1.7B-Base",
        gguf_file: Optional[str] = None,
        revision: Optional[str] = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto",
        adapter: Optional[str] = None,
        lora: LoraSettings = LoraSettings(),
        prompt: PromptTemplate = PromptTemplate(),
        score: ScoreSettings = ScoreSettings(),
        budgets: list[str] = ["1%", "2%", "5%", "10%", "20%"],
        validation_budgets: list[str] = ["5%", "10%"],
        group_size: int = 8,
        sampling: SamplingSettings = SamplingSettings(),
        validation_temperature: float = 0.0,
        reward: RewardSettings = RewardSettings(),
        advantage: Normalisation = "mean",
        clip: ClipSettings = ClipSettings(),
        policy_passes: int = 1,
        micro_batch_tokens: int = 32_768,
        grouping: Grouping = "auto",
        old_log_probs: OldLogProbs = "sampling",
        optimizer: OptimizerSettings = OptimizerSettings(),
        gradient_checkpointing: Checkpointing = "auto",
        memory: MemorySettings = MemorySettings(),
        compile: Compiling = "auto",
        attention: str = "sdpa",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.base, self.gguf_file, self.revision, self.adapter = base, gguf_file, revision, adapter
        self.dtype_name, self.attention = dtype, attention
        self.lora, self.prompt, self.score = lora, prompt, score
        self.budget_names, self.validation_budget_names = list(budgets), list(validation_budgets)
        self.group_size, self.sampling, self.validation_temperature = group_size, sampling, validation_temperature
        self.reward, self.advantage, self.clip = reward, advantage, clip
        self.policy_passes, self.micro_batch_tokens = policy_passes, micro_batch_tokens
        self.grouping = grouping
        self.old_log_probs, self.optimizer_settings = old_log_probs, optimizer
        self.gradient_checkpointing, self.memory = gradient_checkpointing, memory
        self.compile_model, self.seed = compile, seed
        report_problems(module_problems(self))

        self.clock = PhaseClock()
        self.round = 0  #: batches trained on, over all stops and resumptions
        self.figures: dict[str, float] = {}  #: of the last round, by dashboard key
        self.validated: list[Validated] = []  #: lines of the last validation
        self.validations: dict[int, dict[str, float]] = {}  #: figures of each validation, by the round before it
        self._baseline = Baseline()
        self._lines: list[Validated] = []

    # ---- the model ----

    def configure_model(self) -> None:
        """Loads the base model with its adapter, once.

        Raises:
            ModelError: The model, its tokenizer or the adapter cannot be loaded, or do not fit each other.
            ConfigError: Prompt, longest document and longest completion do not fit into the model's context.
        """
        if hasattr(self, "backbone"):
            return
        trainer = self._trainer
        device = trainer.strategy.root_device if trainer is not None else torch.device("cpu")
        tokenizer = load_tokenizer(self.base, self.gguf_file, self.revision)
        config = load_config(self.base, self.gguf_file, self.revision)  # checked before the weights are read
        max_tokens = getattr(getattr(trainer, "datamodule", None), "max_tokens", None)
        report_problems(context_problems(self, tokenizer, context_length(config), max_tokens))
        dtype = pick_dtype(self.dtype_name, device)
        model = load_model(self.base, dtype, self.gguf_file, self.revision, self.attention)
        backbone = Backbone(model, tokenizer, self.lora, self.adapter, self.base)
        self.set_backbone(backbone)

    def set_backbone(self, backbone: Backbone) -> None:
        """Takes a backbone instead of loading one."""
        if self.gradient_checkpointing in ("selective", "full") and not backbone.checkpointable_layers:
            raise ModelError(
                f"model.gradient_checkpointing is {self.gradient_checkpointing!r}, but this model has no layers that "
                "can do it: set it to auto or none"
            )
        self.backbone = backbone
        self.tokenizer: PreTrainedTokenizerBase = backbone.tokenizer
        template, ngram, batch_tokens = self.score.template, self.score.novel_ngram, self.score.batch_tokens
        self.scorer = SquishScorer(backbone.reference, backbone.tokenizer, template, ngram, batch_tokens)
        plan = MemoryPlan(
            Costs(backbone),
            self.memory,
            self.gradient_checkpointing,
            self.sampling.max_rows,
            self.scorer.limit,
            self.micro_batch_tokens,
            self.optimizer_settings.offload,
        )
        self.engine = Engine(backbone, plan, self.prompt, self.grouping, self.compile_model)
        temperature = self.sampling.temperature
        self.learner = Learner(backbone, plan, self.clock, self.clip, temperature, self.old_log_probs, self._backward)

    def configure_optimizers(self) -> Any:
        """AdamW on the adapter alone."""
        optimizer, schedule = make_optimizer(self.backbone.adapter_parameters(), self.optimizer_settings)
        return [optimizer], [schedule]

    # ---- a round of training ----

    def training_step(self, batch: DocumentBatch, batch_idx: int) -> None:
        """One round: rollouts, rewards, advantages, K optimiser steps."""
        self.clock.start_round()
        with self.clock(ROLLOUT, self.device):
            groups = self.rollout(self.training_prompts(batch.documents))
        self.scorer.take_tokens()  # those of a validation in between are not this round's
        with self.clock(SCORING, self.device):
            scores = self.scorer.score_batch(_requests(groups))
            rewards, valid = self.rewards(groups, scores)
        self.clock.tokens[SCORING] = self.scorer.take_tokens()
        skip = zero_spread(rewards)
        rows = make_experience(groups, group_advantages(rewards, self.advantage), skip)
        with self.clock(POLICY, self.device):
            passes = self.learn(rows)
        self.round += 1
        self.figures = {
            **rollout_figures(groups),
            **reward_figures(rewards, valid, scores),
            **policy_figures(passes),
            "optim/learning_rate": self._optimizer.param_groups[0]["lr"],
        }
        self._log_figures(self.figures, len(batch))

    def training_prompts(self, documents: Sequence[Document]) -> list[Prompt]:
        """A prompt for each document, under a budget drawn for this round."""
        budgets = [Budget.parse(name) for name in self.budget_names]
        return [
            self.prompt.build(d, choose(budgets, self.seed, "budget", self.round, self._rank, i), self.tokenizer)
            for i, d in enumerate(documents)
        ]

    def rollout(self, prompts: Sequence[Prompt]) -> list[Rollouts]:
        """G summaries for each prompt; draws depend on seed, round and place in the batch alone."""
        seeds = [derive_seed(self.seed, "sample", self.round, self._rank, i) for i in range(len(prompts))]
        groups = self.engine.sample(prompts, self.group_size, self.sampling, seeds)
        self.clock.tokens[ROLLOUT] += sum(int(g.mask.sum()) + len(g.prompt.token_ids) for g in groups)
        return groups

    def rewards(self, groups: Sequence[Rollouts], scores: Sequence[Scores]) -> tuple[Tensor, Tensor]:
        """([D, G] rewards, [D, G] valid)."""
        own: list[Tensor | None] = [None] * len(groups)
        if self.reward.own_information:
            own = [
                torch.tensor([float(t.double().sum()) for t in self.scorer.information([s or "" for s in g.summaries])])
                for g in groups
            ]
        pairs = [group_rewards(s, g.summaries, self.reward, o) for g, s, o in zip(groups, scores, own, strict=True)]
        return torch.stack([reward for reward, _ in pairs]), torch.stack([valid for _, valid in pairs])

    def learn(self, rows: Sequence[Experience]) -> list[PassTotals]:
        """K policy passes over the same rows, an optimiser step after each."""
        optimizer, schedule = self._optimizer, cast(LambdaLR, self.lr_schedulers())
        passes: list[PassTotals] = []
        for number in range(self.policy_passes):
            totals = self.accumulate(rows, first=number == 0)
            rows = self.learner.as_first_pass(rows, totals) if number == 0 else rows
            totals.grad_norm = self._clip_gradients()
            if not math.isfinite(totals.loss + totals.grad_norm):
                raise SquishError(
                    f"round {self.round + 1}: the loss is {totals.loss} and the gradient's norm {totals.grad_norm}; "
                    "nothing of this round is saved. Lower the learning rate, then go on with --ckpt_path last"
                )
            # with every group skipped the gradient is zero, and the step counts all the same: schedules stay in step
            with state_on_device(optimizer.optimizer, self.device, self.optimizer_settings.offload):
                optimizer.step()
            schedule.step()
            passes.append(totals)
        return passes

    def accumulate(self, rows: Sequence[Experience], first: bool = False) -> PassTotals:
        """One policy pass: the gradient of the whole batch; see `Learner.accumulate`."""
        self.engine.get_ready()
        return self.learner.accumulate(rows, first)

    def _backward(self, loss: Tensor) -> None:
        if self._trainer is None:
            loss.backward()
        else:
            self.manual_backward(loss)

    def _clip_gradients(self) -> float:
        parameters = self.backbone.adapter_parameters()
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        limit = self.optimizer_settings.max_grad_norm or float("inf")
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))

    # ---- validation and prediction ----

    def on_validation_epoch_start(self) -> None:
        """Begins a new table."""
        self._lines = []

    def validation_step(self, batch: DocumentBatch, batch_idx: int) -> None:
        """Summarises every document under every validation budget and scores it by the benchmark's rule."""
        prompts = [
            self.prompt.build(document, Budget.parse(name), self.tokenizer)
            for name in self.validation_budget_names
            for document in batch.documents
        ]
        self._lines += validate_groups(self.scorer, self._one_each(prompts, batch_idx), self._baseline)

    def on_validation_epoch_end(self) -> None:
        """Logs the figures; the validation before training is logged too, at step 0."""
        self.validated = gather_lines(self._lines)
        figures = summarise(self.validated)
        self.validations[self.round] = figures
        if self.trainer.sanity_checking:
            if self.logger is not None:
                self.logger.log_metrics(figures, step=0)
        else:
            self.log_dict(figures | {"step": float(self.round)})

    def predict_step(self, batch: DocumentBatch, batch_idx: int) -> list[Rollouts]:
        """One summary for each document and validation budget."""
        names = self.validation_budget_names
        prompts = [self.prompt.build(d, Budget.parse(n), self.tokenizer) for d in batch.documents for n in names]
        return self._one_each(prompts, batch_idx)

    def _one_each(self, prompts: Sequence[Prompt], batch_idx: int) -> list[Rollouts]:
        settings = replace(self.sampling, temperature=self.validation_temperature)
        seeds = [derive_seed(self.seed, "validation", batch_idx, i) for i in range(len(prompts))]
        return self.engine.sample(prompts, 1, settings, seeds)

    # ---- checkpoints: the adapter and what a resumed run needs, never the frozen base ----

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The adapter's weights alone."""
        return self.backbone.adapter_state()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Puts the adapter's weights in place."""
        self.backbone.load_adapter_state(state_dict)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the round, the base's fingerprint, past validations and the random state."""
        checkpoint["squish"] = {
            "round": self.round,
            "base": self.base,
            "base_fingerprint": self.backbone.fingerprint,
            "validations": self.validations,
            "random": random_state(),
            "engine": self.engine.state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them back.

        Raises:
            CheckpointError: The checkpoint is not one of this application's.
            ModelError: It was made with another base model.
        """
        mine = checkpoint.get("squish")
        if mine is None:
            raise CheckpointError("expected a checkpoint written by this application, but this one is another's")
        check_base(mine["base_fingerprint"], self.backbone.fingerprint, f"the checkpoint (of {mine['base']})")
        self.round = mine["round"]
        self.validations = mine["validations"]
        self._random_state = mine["random"]
        self.engine.resume(mine["engine"])

    def on_train_start(self) -> None:
        """Puts a resumed run right: its random state, and the optimiser's settings where they have changed."""
        apply_settings(self._optimizer.optimizer, cast(LambdaLR, self.lr_schedulers()), self.optimizer_settings)
        if hasattr(self, "_random_state"):
            restore_random_state(self._random_state)
            del self._random_state

    # ---- helpers ----

    @property
    def _optimizer(self) -> LightningOptimizer:
        return cast(LightningOptimizer, self.optimizers())

    @property
    def _rank(self) -> int:
        return self.global_rank if self._trainer is not None else 0

    def _log_figures(self, figures: dict[str, float], batch_size: int) -> None:
        if self._trainer is None:
            return
        shown = {"reward/mean": "reward", "rollout/entropy": "entropy"}
        # "step" is Lightning's name for the horizontal axis: rounds, whatever the number of optimiser steps
        self.log_dict(figures | {"step": float(self.round)}, batch_size=batch_size)
        for key, name in shown.items():
            self.log(name, figures[key], prog_bar=True, logger=False, batch_size=batch_size)


def _requests(groups: Sequence[Rollouts]) -> list[ScoreRequest]:
    return [ScoreRequest(group.prompt.document, group.summaries, group.prompt.budget) for group in groups]
