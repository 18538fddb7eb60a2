"""Runs of a tiny float64 model in one process or several, which are forked off the test's and talk over gloo."""

from __future__ import annotations

import json
import os
import random
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.utilities.rank_zero import rank_zero_only as lightning_rank_zero_only
from lightning_utilities.core.rank_zero import rank_zero_only
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl import DocumentDataModule, SquishModule
from squish_pl.callbacks import AdapterCheckpoint, EntropyMonitor, PredictionWriter, StopTogether, Throughput
from squish_pl.callbacks.checkpoint_io import AtomicCheckpointIO
from squish_pl.parallel import processes
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.plan import MemorySettings
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.optimizer import OptimizerSettings
from squish_pl.rl.validation import ValidationSettings

BUDGETS = ["60%", "90%"]


def write_documents(folder: Path) -> Path:
    draw, path = random.Random(5), folder / "documents.jsonl"
    words = ["ferry", "goat", "council", "pass", "snow", "chess", "bakery", "hill", "crown", "dawn", "night", "street"]
    texts = [" ".join(draw.choices(words, k=draw.randint(4, 14))) + f" {i}." for i in range(60)]
    # two of three come with a summary
    records = [
        {"text": text, "highlights": " ".join(text.split()[:2]) + "." if i % 3 else ""} for i, text in enumerate(texts)
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def make_module(**settings: Any) -> SquishModule:
    defaults: dict[str, Any] = {
        "rollout": RolloutSettings(BUDGETS, group_size=6, max_new_tokens=24),
        "validation": ValidationSettings(BUDGETS, temperature=0.5),
        "prompt": PromptTemplate(instruction="{document}\n{limit}\n", close_tag="H"),
        "learn": LearnSettings(policy_passes=2, advantage="mean_std"),
        "optimizer": OptimizerSettings(learning_rate=1e-2, warmup_steps=2),
        "memory": MemorySettings(micro_batch_tokens=250),
    }
    module = SquishModule(**(defaults | settings))
    backbone = Backbone(make_tiny_model("qwen3", torch.float64), make_byte_tokenizer(), LoraSettings(r=4, alpha=8))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    module.set_backbone(backbone)
    return module


class Diary(Callback):
    """What this process did in each round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []
        self.backwards: list[int] = []
        self._count = 0

    def on_train_start(self, trainer: Trainer, pl_module: SquishModule) -> None:
        for learner in (pl_module.learner, pl_module.warm_learner):
            learner.backward = self._counting(learner.backward)

    def on_train_batch_end(self, trainer: Trainer, pl_module: SquishModule, *_: Any) -> None:
        self.rounds.append(dict(pl_module.figures))
        self.backwards.append(self._count)
        self._count = 0

    def _counting(self, backward: Callable[..., None]) -> Callable[..., None]:
        def counted(loss: torch.Tensor) -> None:
            self._count += 1
            backward(loss)

        return counted


def fit(
    folder: Path,
    name: str,
    devices: int,
    rounds: int = 3,
    batch_size: int = 5,
    resume: str | None = None,
    module: Callable[[], SquishModule] = make_module,
    callbacks: Callable[[], Sequence[Callback]] = tuple,
    predict: bool = False,
    validate_every: int = 2,
) -> dict[str, Any]:
    """Trains on this process's share, and tells what came of it."""
    seed_everything(0, verbose=False)
    model, diary, run = module(), Diary(), folder / name
    documents = str(folder / "documents.jsonl")
    sizes: dict[str, Any] = {"validation_size": 5, "validation_batch_size": 3, "holdout_share": 0.15}
    data = DocumentDataModule(documents, batch_size=batch_size, shuffle_window=8, tokenizer=model.tokenizer, **sizes)
    ours = [AdapterCheckpoint(str(run), every_n_rounds=1), Throughput(), PredictionWriter(str(run / "said.jsonl"))]
    trainer = Trainer(
        max_steps=rounds * model.learn.policy_passes,
        accelerator="cpu",
        devices=devices,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks(), EntropyMonitor(), diary, *ours, StopTogether()],
        plugins=[AtomicCheckpointIO()],
        val_check_interval=validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=-1,
        default_root_dir=folder,
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume)
    state = trainer.optimizers[0].state_dict()["state"]
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    if predict:
        trainer.predict(model, datamodule=data, return_predictions=False)
    return {
        "adapter": [p.detach() for p in model.backbone.adapter_parameters()],
        "moments": [t for of_one in state.values() for name, t in of_one.items() if name != "step"],
        "rounds": diary.rounds,
        "backwards": diary.backwards,
        "validations": model.validations,
        "validated": [(line.document_id, line.budget, line.summary) for line in model.validated],
        "round": model.round,
        "learning": model.learner.plan.learning.value,
        "available": model.engine.plan.available,
        "clock": dict(model.clock.tokens),
        "logged": logged,
    }


def start(devices: int, work: Callable[..., Any], results: Path, *args: Any, **kwargs: Any) -> list[Any]:
    """Forks a process for each device, as a cluster would start them, connected once Lightning asks for it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("fork")
    several = [
        context.Process(target=_process, args=(rank, devices, port, results, work, args, kwargs))
        for rank in range(devices)
    ]
    for process in several:
        process.start()
    return several


def finish(several: Sequence[Any], timeout: float = 120) -> list[int | None]:
    """Exit codes; None of a process that was still running then, and is killed."""
    deadline = time.monotonic() + timeout
    for process in several:
        process.join(max(0.1, deadline - time.monotonic()))
    codes = [process.exitcode for process in several]
    for process in several:
        process.kill()
    return codes


def run(devices: int, work: Callable[..., Any], folder: Path, *args: Any, **kwargs: Any) -> list[Any]:
    """What each process's work returns."""
    results = folder / f"results-{time.monotonic_ns()}"
    results.mkdir()
    codes = finish(start(devices, work, results, *args, **kwargs))
    told = {path.name: path.read_text()[-3000:] for path in results.glob("*.txt")}
    assert codes == [0] * devices, told
    return [torch.load(results / f"{rank}.pt", weights_only=False) for rank in range(devices)]


def _process(
    rank: int, devices: int, port: int, results: Path, work: Callable[..., Any], args: Any, kwargs: Any
) -> None:
    torch.set_num_threads(1)
    rank_zero_only.rank = lightning_rank_zero_only.rank = rank  # as read from the environment when first imported
    if devices > 1:
        several = {"LOCAL_RANK": rank, "WORLD_SIZE": devices, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in several.items()})
    try:
        torch.save(work(*args, **kwargs), results / f"{rank}.pt")
    except BaseException:
        (results / f"{rank}.txt").write_text(traceback.format_exc())
        os._exit(1)
    processes.finish()
    os._exit(0)  # nothing of pytest's is to be ended a second time


def difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """Relative, over all tensors."""
    a, b = (torch.cat([t.flatten().double() for t in some]) for some in (one, other))
    return float((a - b).norm() / a.norm())
