"""The LightningModule: the stages of a round in order, then the optimiser.

    DocumentBatch ─ budgets, prompts ─> [rollout] ─> Rollouts ─> [scoring] ─> rewards ─> advantages
                                           │ adapter on             │ adapter off
                                           v                        v
                        K x [policy pass: slices of rows, one optimiser step]   adapter on, gradients

Rounds of the warm start, where there are any, come first: the best summaries are learnt instead of advantages.

What differs from the papers:
    - no KL penalty: the clip alone holds the policy back (as in DAPO); the reference only measures
    - the advantage is the reward minus its group's mean; dividing by the standard deviation is an option
    - a group counts by its tokens' mean, and every document of the batch counts the same; where the policy thinks
      before it writes, thoughts and summaries have a mean each
    - groups whose rewards are all equal are left out of the passes; they still count as documents
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, Optional, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from squish_pl.budget import Budget
from squish_pl.errors import CheckpointError, ModelError, SquishError, report_problems
from squish_pl.lm.language_model import context_length
from squish_pl.lm.loading import BaseModel
from squish_pl.parallel import processes
from squish_pl.policy.adapter import LoraSettings, adapter_problems, check_base
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.context import context_problems
from squish_pl.policy.engine import Engine
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings, SamplingSettings
from squish_pl.rl.advantages import group_advantages, zero_spread
from squish_pl.rl.entropy_control import EntropyControl
from squish_pl.rl.experience import make_experience
from squish_pl.rl.figures import PassTotals, policy_figures, reward_figures, rollout_figures, source_figures
from squish_pl.rl.learner import Learner, LearnSettings
from squish_pl.rl.losses import ClippedLoss, PolicyLoss
from squish_pl.rl.optimizer import (
    OptimizerSettings,
    apply_settings,
    begin_anew,
    make_optimizer,
    move_state,
    state_on_device,
)
from squish_pl.rl.phases import POLICY, ROLLOUT, SCORING, WAITING, PhaseClock
from squish_pl.rl.rewards import (
    GroupRewards,
    Reward,
    Squish,
    budget_used,
    carried_measures,
    group_rewards,
    reward_problems,
)
from squish_pl.rl.shares import Judged, whole_batch
from squish_pl.rl.validation import Validated, ValidationSettings, Validator, key_problems
from squish_pl.rl.warm_start import (
    CrossEntropy,
    WarmStartSettings,
    choose_lessons,
    given_groups,
    make_lessons,
    tell_warm_round,
    used_figures,
    warm_figures,
)
from squish_pl.score.ensemble import EnsembleScorer, ReferenceSettings, load_scorer, make_scorer
from squish_pl.score.scorer import Scorer, ScoreRequest
from squish_pl.score.settings import ScoreSettings
from squish_pl.seeds import choose, derive_seed, random_state, restore_random_state
from squish_pl.types import Document, DocumentBatch, Experience, Prompt, Rollouts, Scores

log = logging.getLogger(__name__)


class SquishModule(LightningModule):
    """Trains a LoRA adapter to write summaries that score well.

    Args:
        base_model: The policy's base, and with its adapter off the (first) reference.
        adapter: Folder of a PEFT adapter to start from instead of a new one.
        lora: A new adapter's settings.
        prompt: How a summary is asked for and where it ends.
        rollout: What is sampled: budgets, group size, temperature.
        score: How a summary is measured.
        reference: Which models measure beside the base, and how their scores are combined.
        rewards: What is rewarded: components by class_path and init_args, added up with their weights (Squish,
            SquishNovel, Measured, OwnInformation, or a class of your own).
        learn: Advantages, policy passes, and what invalid summaries earn.
        loss: What a policy pass minimises, by class_path and init_args: ClippedLoss, or a class of your own.
        entropy: What holds the policy's entropy near a target, by class_path and init_args: RepoR, EntropyBonus,
            Adapo, KlCov, or a class of your own; by default nothing.
        optimizer: AdamW's settings.
        memory: What the run may take of the device's memory, and how it uses it.
        validation: Budgets, temperature and audit of validations.
        warm_start: Rounds before the reinforcement that learn good summaries by cross-entropy; none by default.

    Attributes:
        measures: What is measured beside SQUISH and SQUISH-novel: those of `score`, and what the rewards need.
    """

    def __init__(
        self,
        base_model: BaseModel = BaseModel(),
        adapter: Optional[str] = None,
        lora: LoraSettings = LoraSettings(),
        prompt: PromptTemplate = PromptTemplate(),
        rollout: RolloutSettings = RolloutSettings(),
        score: ScoreSettings = ScoreSettings(),
        reference: ReferenceSettings = ReferenceSettings(),
        rewards: list[Reward] = [Squish()],
        learn: LearnSettings = LearnSettings(),
        loss: PolicyLoss = ClippedLoss(),
        entropy: Optional[EntropyControl] = None,
        optimizer: OptimizerSettings = OptimizerSettings(),
        memory: MemorySettings = MemorySettings(),
        validation: ValidationSettings = ValidationSettings(),
        warm_start: WarmStartSettings = WarmStartSettings(),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.base_model, self.adapter, self.lora, self.prompt = base_model, adapter, lora, prompt
        self.rollout, self.score, self.reference = rollout, score, reference
        self.rewards, self.learn, self.loss, self.entropy = list(rewards), learn, loss, entropy
        self.optimizer, self.memory, self.validation, self.warm_start = optimizer, memory, validation, warm_start
        self.measures = carried_measures(score.measures, self.rewards)
        groups = (lora, prompt, rollout, score, reference, learn, optimizer, memory, validation, warm_start)
        found = [f"base_model.{problem}" for problem in base_model.problems()]
        found += [problem for settings in groups for problem in settings.problems()]
        found += adapter_problems(adapter) + reward_problems(self.rewards) + key_problems(self.measures)
        found += [f"loss ({type(loss).__name__}): {problem}" for problem in loss.problems()]
        if prompt.thinking is not None and warm_start.rounds and warm_start.source == "highlights":
            found.append(
                "warm_start.source is highlights, which come without a thought, but with prompt.thinking the policy "
                "thinks first: set warm_start.source to samples, or leave prompt.thinking out"
            )
        if entropy is not None:
            wrong = entropy.problems(loss, learn.policy_passes)
            found += [f"entropy ({type(entropy).__name__}): {problem}" for problem in wrong]
        report_problems(f"model.{problem}" for problem in found)
        self.loss = loss if entropy is None else entropy.attach(loss)

        self.clock = PhaseClock()
        self.round = 0  #: batches trained on, over all stops and resumptions
        self.warming = False  #: whether the optimiser is that of the warm start
        self.figures: dict[str, float] = {}  #: of the last round, by dashboard key
        self._logged: set[str] = set()
        self.validations: dict[int, dict[str, float]] = {}  #: figures of each validation, by the round before it

    # ---- the model ----

    def configure_model(self) -> None:
        """Loads the base model with its adapter, and the other references, once.

        Raises:
            ModelError: The model, its tokenizer or the adapter cannot be loaded, or do not fit each other.
            ConfigError: Prompt, longest document and longest completion do not fit into the model's context.
        """
        if hasattr(self, "backbone"):
            return
        trainer = self._trainer
        device = trainer.strategy.root_device if trainer is not None else torch.device("cpu")
        tokenizer = self.base_model.load_tokenizer()
        config = self.base_model.load_config()  # checked before the weights are read
        max_tokens = getattr(self._documents, "max_tokens", None)
        budgets = [*self.rollout.budgets, *self.validation.budgets, *chain(*self._source_budgets.values())]
        asked = self.prompt, self.score.template, budgets, self.rollout.max_new_tokens
        report_problems(context_problems(*asked, tokenizer, context_length(config), max_tokens))
        model = self.base_model.load(device, tokenizer)
        backbone = Backbone(model, tokenizer, self.lora, self.adapter, self.base_model.base)
        processes.agree(
            backbone.fingerprint, f"the processes have read different base models as {self.base_model.base!r}"
        )
        self.set_backbone(backbone, device)

    def set_backbone(self, backbone: Backbone, device: torch.device | None = None) -> None:
        """Takes a backbone instead of loading one.

        Args:
            backbone: The base model with its adapter.
            device: Where it will run; by default where it lies.
        """
        if self.memory.checkpointing in ("selective", "full") and not backbone.checkpointable_layers:
            raise ModelError(
                f"model.memory.checkpointing is {self.memory.checkpointing!r}, but this model has no layers that "
                "can do it: set it to auto or none"
            )
        self.backbone = backbone
        # each process has read the base for itself: Lightning need not send it around
        frozen = [name for name, p in self.named_parameters() if not p.requires_grad]
        self._ddp_params_and_buffers_to_ignore = frozen + [name for name, _ in self.named_buffers()]
        self.tokenizer: PreTrainedTokenizerBase = backbone.tokenizer
        device = device or backbone.device
        score = replace(self.score, measures=self.measures)
        own = make_scorer(backbone.reference, backbone.tokenizer, score)
        self.scorer: Scorer = self.reference.scorer(own, score, device)
        audit = None
        if self.validation.audit is not None:  # between validations it waits in the CPU's memory
            audit = EnsembleScorer([load_scorer(self.validation.audit, score, "cpu")], "mean", device)
        self.validator = Validator(self.scorer, audit)
        costs = Costs(backbone, entropy_gradient=self.entropy is not None)
        plan = MemoryPlan(costs, self.memory, own.limit, self.optimizer.offload, processes.of_node)
        self.engine = Engine(backbone, plan, self.prompt, self.memory.passes, self.memory.compile)
        temperature, old = self.rollout.temperature, self.learn.old_log_probs
        self.learner = Learner(backbone, plan, self.clock, self.loss, temperature, old, self._backward, self.entropy)
        self.warm_learner = Learner(backbone, plan, self.clock, CrossEntropy(), temperature, backward=self._backward)

    @property
    def validated(self) -> list[Validated]:
        """Lines of the last validation."""
        return self.validator.lines if hasattr(self, "validator") else []

    def configure_optimizers(self) -> Any:
        """AdamW on the adapter alone."""
        optimizer, schedule = make_optimizer(self.backbone.adapter_parameters(), self.optimizer)
        return [optimizer], [schedule]

    # ---- a round of training ----

    def training_step(self, batch: DocumentBatch, batch_idx: int) -> None:
        """One round: rollouts, rewards, advantages, K optimiser steps; or one of the warm start."""
        self.clock.start_round()
        self._take_phase(self.round < self.warm_start.rounds)
        with self.clock(ROLLOUT, self.device):
            prompts = self.training_prompts(batch.documents)
            own = {place: prompts[place] for place in processes.share(len(prompts))}
            groups = self.given(list(own.values())) if self._given else self.sample(list(own.values()), list(own))
        self.scorer.take_tokens()  # those of a validation in between are not this round's
        with self.clock(SCORING, self.device):
            scores = self.scorer.score_batch(_requests(groups))
            rewarded = self.judge(groups, scores)
        self.clock.tokens[SCORING] = self.scorer.take_tokens()
        used = [budget_used(group, self.tokenizer) for group in groups]
        if processes.size() > 1:
            with self.clock(WAITING, self.device):
                whole = whole_batch(batch.documents, own, Judged(groups, scores, rewarded, used))
            groups, scores, rewarded, used = whole
        figures: dict[str, float] = {}
        if not self._given:
            figures = rollout_figures(groups) | used_figures(rewarded, used) | reward_figures(rewarded, scores)
            figures |= source_figures(groups, scores)
        if self.warming:
            figures |= self._warm_up(groups, rewarded, used, len(batch))
        else:
            figures |= self._reinforce(groups, rewarded, figures["rollout/entropy"])
        self.round += 1
        self.figures = {
            **figures,
            "optim/learning_rate": self._optimizer.param_groups[0]["lr"],
            **getattr(self._documents, "figures", {}),
        }
        self._log_figures(self.figures, len(batch))

    def training_prompts(self, documents: Sequence[Document]) -> list[Prompt]:
        """A prompt for each document, under a budget drawn for this round from its source's own or the run's."""
        budgets = self.rollout.budgets_at(self.round)
        own = {name: [Budget.parse(text) for text in texts] for name, texts in self._source_budgets.items()}
        place = self.rollout.seed, "budget", self.round, 0
        return [
            self.prompt.build(document, choose(own.get(document.source, budgets), *place, i), self.tokenizer)
            for i, document in enumerate(documents)
        ]

    def sample(self, prompts: Sequence[Prompt], places: Sequence[int] | None = None) -> list[Rollouts]:
        """G summaries for each prompt; draws depend on seed, round and place in the batch alone.

        Args:
            prompts: To be answered.
            places: Theirs in the batch; by default they are the whole of it.
        """
        places = range(len(prompts)) if places is None else places
        seeds = [derive_seed(self.rollout.seed, "sample", self.round, 0, place) for place in places]
        size = self.warm_start.group_size if self.warming else None
        groups = self.engine.sample(prompts, size or self.rollout.group_size, self.rollout.sampling, seeds)
        self.clock.tokens[ROLLOUT] += sum(int(g.mask.sum()) + len(g.prompt.token_ids) for g in groups)
        return groups

    def given(self, prompts: Sequence[Prompt]) -> list[Rollouts]:
        """The summaries that come with the documents, in place of samples; none for those that have none."""
        caps = self.engine.caps(prompts, self.rollout.sampling)
        return given_groups(prompts, self.prompt, self.tokenizer, caps)

    def judge(self, groups: Sequence[Rollouts], scores: Sequence[Scores]) -> list[GroupRewards]:
        """What each group's summaries earn."""
        return [
            group_rewards(self.rewards, self.learn.invalid, score, group, self.scorer, self.learn.length)
            for group, score in zip(groups, scores, strict=True)
        ]

    def _reinforce(
        self, groups: Sequence[Rollouts], rewarded: Sequence[GroupRewards], entropy: float
    ) -> dict[str, float]:
        """Learns from a round's advantages, its sampled entropy known; its figures."""
        if self.entropy is not None:
            self.entropy.observe(entropy)
        rewards = torch.stack([group.total for group in rewarded])
        advantages = group_advantages(rewards, self.learn.advantage)
        with self.clock(POLICY, self.device):
            rows = make_experience(groups, advantages, zero_spread(rewards), self.learn.thought_share)
            passes = self.update(rows, self.learn.policy_passes)
        return policy_figures(passes) | ({} if self.entropy is None else self.entropy.figures())

    def _warm_up(
        self, groups: Sequence[Rollouts], rewarded: Sequence[GroupRewards], used: Sequence[Tensor], documents: int
    ) -> dict[str, float]:
        """Learns the best of a round's summaries; its figures."""
        chosen = [choose_lessons(*group, self.warm_start) for group in zip(groups, rewarded, used, strict=True)]
        with self.clock(POLICY, self.device):
            rows = make_lessons(groups, chosen, self.learn.thought_share)
            passes = self.update(rows, self.warm_start.passes or self.learn.policy_passes)
        figures = warm_figures(documents, rewarded, used, chosen, passes)
        tell_warm_round(self.round + 1, self.warm_start, figures)
        return figures

    def _take_phase(self, warm: bool) -> None:
        """Begins or ends the warm start. Each phase has an optimiser of its own: gradients differ by magnitudes."""
        if warm == self.warming:
            return
        self.warming = warm
        if warm:
            log.info("warm start: %s", self.warm_start.describe(self.rollout.group_size))
        begin_anew(self._optimizer.optimizer, cast(LambdaLR, self.lr_schedulers()), self._optimizer_settings)

    def update(self, rows: Sequence[Experience], passes: int) -> list[PassTotals]:
        """Policy passes over the same rows, an optimiser step after each."""
        optimizer, schedule = self._optimizer, cast(LambdaLR, self.lr_schedulers())
        found: list[PassTotals] = []
        for number in range(passes):
            totals = self.accumulate(rows, first=number == 0)
            rows = self._learner.as_first_pass(rows, totals) if number == 0 else rows
            totals.grad_norm = self._clip_gradients()
            if not math.isfinite(totals.loss + totals.grad_norm):
                raise SquishError(
                    f"round {self.round + 1}: the loss is {totals.loss}{totals.found_on} and the gradient's norm "
                    f"{totals.grad_norm}; nothing of this round is saved. Lower the learning rate, then go on with "
                    "--ckpt_path last"
                )
            # with every group skipped the gradient is zero, and the step counts all the same: schedules stay in step
            with state_on_device(optimizer.optimizer, self.device, self.optimizer.offload):
                optimizer.step()
            schedule.step()
            found.append(totals)
        return found

    def accumulate(self, rows: Sequence[Experience], first: bool = False) -> PassTotals:
        """One policy pass: the gradient of the whole batch; see `Learner.accumulate`."""
        self.engine.get_ready()
        return self._learner.accumulate(rows, first)

    def _backward(self, loss: Tensor) -> None:
        if self._trainer is None:
            loss.backward()
        else:
            strategy = self._trainer.strategy
            # Lightning's DDP would add gradients up in every slice, of which each process has a number of its own
            with strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext():
                self.manual_backward(loss)

    def _clip_gradients(self) -> float:
        parameters = self.backbone.adapter_parameters()
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        limit = self.optimizer.max_grad_norm or float("inf")
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))

    # ---- validation and prediction ----

    def on_validation_epoch_start(self) -> None:
        """Begins a new table."""
        self.validator.start()

    def validation_step(self, batch: DocumentBatch, batch_idx: int) -> None:
        """Summarises every document under every validation budget and scores it by the benchmark's rule."""
        pairs = [(document, name) for name in self.validation.budgets for document in batch.documents]
        groups = self._one_each(pairs, batch_idx, batch)
        self.validator.add(list(groups.values()), [(batch_idx, place) for place in groups])

    def on_validation_epoch_end(self) -> None:
        """Logs the figures; the validation before training is logged too, at step 0."""
        figures = self.validator.finish()
        self.validations[self.round] = figures
        if self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics(figures, step=0)
        else:
            self.log_dict(figures | {"step": float(self.round)})

    def predict_step(self, batch: DocumentBatch, batch_idx: int) -> list[Rollouts]:
        """One summary for each document and validation budget."""
        pairs = [(document, name) for document in batch.documents for name in self.validation.budgets]
        groups = {
            place: group
            for own in processes.gather(self._one_each(pairs, batch_idx, batch))
            for place, group in own.items()
        }
        return [groups[place] for place in range(len(pairs))]

    def _one_each(
        self, pairs: Sequence[tuple[Document, str]], batch_idx: int, batch: DocumentBatch
    ) -> dict[int, Rollouts]:
        """A summary for each pair of this process's documents of the batch, by the pair's place."""
        mine = {id(batch.documents[place]) for place in processes.share(len(batch))}
        own = {place: pair for place, pair in enumerate(pairs) if id(pair[0]) in mine}
        prompts = [self.prompt.build(document, Budget.parse(name), self.tokenizer) for document, name in own.values()]
        settings = SamplingSettings(self.validation.temperature, self.rollout.max_new_tokens)
        seeds = [derive_seed(self.rollout.seed, "validation", batch_idx, place) for place in own]
        return dict(zip(own, self.engine.sample(prompts, 1, settings, seeds), strict=True))

    # ---- checkpoints: the adapter and what a resumed run needs, never the frozen base ----

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The adapter's weights alone."""
        return self.backbone.adapter_state()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Puts the adapter's weights in place."""
        self.backbone.load_adapter_state(state_dict)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the round, the base's fingerprint, past validations, the random state and the entropy control's."""
        checkpoint["squish"] = {
            "round": self.round,
            "warming": self.warming,
            "base": self.base_model.base,
            "base_fingerprint": self.backbone.fingerprint,
            "validations": self.validations,
            "random": random_state(),
            "engine": self.engine.state(),
        }
        of_processes = processes.gather({name: checkpoint["squish"][name] for name in ("random", "engine")})
        if len(of_processes) > 1:
            checkpoint["squish"]["processes"] = of_processes
        if self.entropy is not None:
            checkpoint["squish"]["entropy"] = {type(self.entropy).__name__: self.entropy.state_dict()}

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
        self.warming = mine.get("warming", False)
        self.validations = mine["validations"]
        of_processes = mine.get("processes", [mine])
        same = len(of_processes) == processes.size()
        own = of_processes[processes.rank()] if same else mine
        self._random_state = own["random"]
        self.engine.resume(own["engine"] if same else own["engine"] | {"plan": None})  # memory is shared otherwise
        state = mine.get("entropy", {}).get(type(self.entropy).__name__)
        if self.entropy is not None and state is not None:  # a control of another kind begins anew
            self.entropy.load_state_dict(state)

    def on_train_start(self) -> None:
        """Puts a resumed run right: its random state, and the optimiser's settings where they have changed."""
        apply_settings(self._optimizer.optimizer, cast(LambdaLR, self.lr_schedulers()), self._optimizer_settings)
        if self.optimizer.offload:  # Lightning has put the restored state beside the weights
            move_state(self._optimizer.optimizer, torch.device("cpu"))
        if hasattr(self, "_random_state"):
            restore_random_state(self._random_state)
            del self._random_state

    # ---- helpers ----

    @property
    def _optimizer(self) -> LightningOptimizer:
        return cast(LightningOptimizer, self.optimizers())

    @property
    def _optimizer_settings(self) -> OptimizerSettings:
        return self.warm_start.optimizer(self.optimizer) if self.warming else self.optimizer

    @property
    def _learner(self) -> Learner:
        return self.warm_learner if self.warming else self.learner

    @property
    def _given(self) -> bool:
        """Whether the round's summaries come with the documents."""
        return self.warming and self.warm_start.source == "highlights"

    @property
    def _documents(self) -> Any:
        """The documents' DataModule, if there is one."""
        return getattr(self._trainer, "datamodule", None)

    @property
    def _source_budgets(self) -> Mapping[str, list[str]]:
        """Of those sources of documents that have their own, by name."""
        return getattr(self._documents, "budgets", {})

    def _log_figures(self, figures: dict[str, float], batch_size: int) -> None:
        if self._trainer is None:
            return
        shown = {"reward/mean": "reward", "rollout/entropy": "entropy"}
        if self._given:
            shown = {"warm/reward": "reward", "warm/entropy": "entropy"}
        # a figure that a round does not have would be written again as it was before
        for key in self._logged - figures.keys():
            self.trainer._results.pop(f"training_step.{key}", None)  # type: ignore[union-attr]
        self._logged = set(figures)
        # "step" is Lightning's name for the horizontal axis: rounds, whatever the number of optimiser steps
        self.log_dict(figures | {"step": float(self.round)}, batch_size=batch_size)
        for key in shown.keys() & figures.keys():
            self.log(shown[key], figures[key], prog_bar=True, logger=False, batch_size=batch_size)


def _requests(groups: Sequence[Rollouts]) -> list[ScoreRequest]:
    return [ScoreRequest(group.prompt.document, group.summaries, group.prompt.budget) for group in groups]
