"""A whole training round in TRL's GRPOTrainer and in ours, in turn, in one process.

pip install -c constraints.txt trl==1.16.0
python benchmarks/peers/trl_step.py --prompt 500 --group 16 --completion 64 --passes 4

The same for both: weights, adapter, prompts to the token, completions of exactly C tokens, reward (our scorer under the
frozen base), clip, K optimiser steps of AdamW on the D * G completions. It ends with an error if TRL's tokens or steps
differ. TRL's seconds run from the end of one round to that of the next, by its callbacks; a round of ours in between
is left out. On a GPU both models lie in its memory, in both peaks.

TRL's settings, as its documentation has them for one device without vLLM:
    - no KL penalty, so no reference model and no pass for it; no gradient checkpointing (its default is to have it)
    - one generation for all K steps (num_iterations, and steps_per_generation = gradient_accumulation_steps)
    - four rows a pass: on one CPU thread the fastest of 1, 2, 4 and 8, by 3 to 7 % (`--per_device`)
    - transformers' `generate`: on a CPU its continuous batching took four times as long (`--continuous_batching`)
    - the output head on completion tokens alone, as on a GPU; elsewhere TRL applies it to prompts too (`--as_shipped`)
What cannot be set: `generate` reads the prompt once for each of the G completions and returns no log-probs, so with
K > 1 TRL runs one more forward pass for the old ones. It counts as policy.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from common import Model, make_backbone, report
from jsonargparse import auto_cli
from peft import PeftModel
from round import (
    BUDGET,
    TEMPLATE,
    make_batches,
    make_module,
    report_parts,
    summarise,
    texts,
)

from squish_pl.policy.backbone import Backbone
from squish_pl.rl.phases import POLICY, ROLLOUT, SCORING
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.types import Prompt

TESTED = "1.16.0"
try:
    import trl.trainer.utils
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    raise SystemExit(f"this needs TRL ({error}): pip install -c constraints.txt trl=={TESTED}") from None


class MeasuredTrainer(GRPOTrainer):
    """TRL's trainer with a clock: seconds of the phases of the round in hand, and every round's tokens."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tokens: list[tuple[list[int], int]] = []  #: of each round: of each prompt, and of all completions
        super().__init__(*args, **kwargs)

    def _generate(self, prompts: list[str]) -> Any:
        with self._measure(ROLLOUT):
            return super()._generate(prompts)

    def _calculate_rewards(self, *args: Any) -> Any:
        with self._measure(SCORING):
            return super()._calculate_rewards(*args)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        self.tokens.append((output["prompt_mask"].sum(1).tolist(), int(output["completion_mask"].sum())))
        return output

    @contextmanager
    def _measure(self, phase: str) -> Iterator[None]:
        _wait()
        start = time.perf_counter()
        yield
        _wait()
        self.seconds[phase] += time.perf_counter() - start


class Rounds(TrainerCallback):
    """Takes the time of every K optimiser steps, and does something else after them that does not count."""

    def __init__(self, passes: int, afterwards: Callable[[], None]) -> None:
        self.passes, self.afterwards = passes, afterwards
        self.trainer: MeasuredTrainer
        self.measured: list[dict[str, float]] = []

    def on_train_begin(self, args: GRPOConfig, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Starts the first round."""
        self._start()

    def on_step_end(self, args: GRPOConfig, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ends a round after its last optimiser step."""
        if state.global_step % self.passes:
            return
        _wait()
        whole, cpu, parts = time.perf_counter() - self.start, time.process_time() - self.cpu, self.trainer.seconds
        peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
        # what is neither: the forward pass for the old log-probs, K passes, K optimiser steps
        policy = whole - parts[ROLLOUT] - parts[SCORING]
        self.measured.append({"round": whole, "cpu": cpu, **parts, POLICY: policy, "peak_gb": peak})
        self.afterwards()
        self._start()

    def _start(self) -> None:
        self.trainer.seconds.clear()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        _wait()
        self.start, self.cpu = time.perf_counter(), time.process_time()


def main(
    model: Model = Model(),
    prompt: int = 500,
    group: int = 16,
    completion: int = 64,
    passes: int = 4,
    documents: int = 1,
    per_device: int = 4,
    gradient_checkpointing: bool = False,
    continuous_batching: bool = False,
    as_shipped: bool = False,
    ours: bool = True,
    repeats: int = 5,
    json: bool = False,
) -> None:
    """Measures whole rounds.

    Args:
        model: See `common.Model`.
        prompt: P, tokens, the document among them.
        group: G, completions of a document.
        completion: C, tokens each.
        passes: K, optimiser steps a round.
        documents: D, of a round.
        per_device: TRL's per_device_train_batch_size, rows of a pass; divides D * G.
        gradient_checkpointing: TRL's.
        continuous_batching: TRL's use_transformers_continuous_batching.
        as_shipped: Let TRL apply the output head to the prompts' tokens too, as it does off a GPU.
        ours: Run one of our rounds after each of TRL's.
        repeats: Counted rounds, after one to warm up.
        json: Print JSON.
    """
    settings = {**locals(), "trl": trl.__version__}
    if documents * group % per_device:
        raise SystemExit(f"--per_device must divide {documents * group}, the completions of a round")
    if not as_shipped:
        trl.trainer.utils._use_triton = lambda device: True  # this module asks it about the head alone
    backbone = make_backbone(model)  # ours; the adapter off is the reference of both
    peer = make_backbone(model)  # the same weights and adapter for TRL
    batches = make_batches(backbone.tokenizer, repeats + 1, documents, prompt)
    prompts = [TEMPLATE.build(d, BUDGET, peer.tokenizer) for batch in batches for d in batch.documents]
    module = make_module(backbone, "shared_prefix", group, completion, passes)
    our_rounds: list[dict[str, float]] = []
    left = iter(batches)

    def our_round() -> None:
        if ours:
            our_rounds.append(module.run(next(left)))

    callback = Rounds(passes, our_round)
    scorer = SquishScorer(backbone.reference, backbone.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            # the algorithm, as ours
            num_generations=group,
            max_completion_length=completion,
            generation_kwargs={"min_new_tokens": completion},
            num_iterations=passes,
            temperature=1.0,
            beta=0.0,
            epsilon=0.2,
            epsilon_high=0.3,
            loss_type="dapo",
            scale_rewards="none",
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            # a round's rollouts are one batch, and every optimiser step learns from all of them
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=documents * group // per_device,
            max_steps=passes * (repeats + 1),
            shuffle_dataset=False,
            # speed
            use_cpu=model.device == "cpu",
            bf16=backbone.policy.dtype == torch.bfloat16,
            gradient_checkpointing=gradient_checkpointing,
            use_transformers_continuous_batching=continuous_batching,
            # nothing on the side
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=model.device != "cpu",
        )
        trainer = MeasuredTrainer(
            model=_plain(peer),
            args=config,
            reward_funcs=squish_reward(scorer),
            train_dataset=Dataset.from_list([{"prompt": p.text, "document": p.document.text} for p in prompts]),
            processing_class=peer.tokenizer,
            callbacks=[callback],
        )
        trainer.remove_callback(PrinterCallback)
        callback.trainer = trainer
        trainer.train()
    check(trainer, prompts, group, completion, passes, repeats + 1)
    results = {"TRL": summarise(callback.measured)}
    if ours:
        results["ours"] = summarise(our_rounds)
    report(f"round, P={prompt} G={group} C={completion} K={passes} D={documents}", results, settings, json)
    if not json:
        report_parts(results)


def squish_reward(scorer: SquishScorer) -> Callable[..., list[float]]:
    """Our score as a reward function of TRL's: rows of one document follow one another."""

    def squish(completion_ids: Sequence[Sequence[int]], document: Sequence[str], **_: Any) -> list[float]:
        summaries = texts(scorer.tokenizer, torch.tensor(completion_ids))
        groups: dict[str, list[str | None]] = {}
        for text, summary in zip(document, summaries, strict=True):
            groups.setdefault(text, []).append(summary)
        scores = scorer.score_batch([ScoreRequest(text, group, BUDGET) for text, group in groups.items()])
        return [float(score) for group in scores for score in group.score]

    return squish


def _plain(backbone: Backbone) -> PeftModel:
    """The backbone's model with the library's attention, as TRL's users have it."""
    model = backbone.language_model.model
    model.set_attn_implementation("sdpa")
    model.activation_checkpointing_disable()  # else TRL would switch it on again after generating
    return backbone.model


def check(
    trainer: MeasuredTrainer, prompts: Sequence[Prompt], group: int, completion: int, passes: int, rounds: int
) -> None:
    """Makes sure that TRL did the work that ours does: as many tokens, and as many optimiser steps.

    Raises:
        SystemExit: It did not.
    """
    documents = len(prompts) // rounds
    lengths = [len(p.token_ids) for p in prompts[:documents] for _ in range(group)]
    expected = [(lengths, documents * group * completion)] * rounds
    if trainer.tokens != expected or trainer.state.global_step != passes * rounds:
        raise SystemExit(
            f"TRL's rounds differ from ours: {trainer.tokens} tokens in {trainer.state.global_step} steps, "
            f"but {expected} in {passes * rounds} are wanted"
        )


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
