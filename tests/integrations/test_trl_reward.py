"""TRL's own trainer learns from the reward, logs it by name, and gives it the dataset's columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.integrations.trl import SquishReward
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

DOCUMENTS = ["Ada Lovelace wrote notes on an engine. " * 3, "The bridge opens on the first of July. " * 3]


class Noting(SquishReward):
    """Answers a fixed text in place of what a random model wrote, and notes what it was called with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[dict[str, Any]] = []

    def __call__(self, completions: Any, **columns: Any) -> list[float]:
        words = ["Ada wrote notes.</summary>", "July</summary>", "never closed", "Ada</summary>"]
        written = [words[row % 4] for row in range(len(completions))]
        chat = not isinstance(completions[0], str)
        answers = [[{"role": "assistant", "content": text}] for text in written] if chat else written
        rewards = super().__call__(answers, **columns)
        self.calls.append({"completions": completions, "rewards": rewards, **columns})
        return rewards


@pytest.mark.parametrize("chat", [False, True])
def test_two_steps_of_grpo(chat: bool, tmp_path: Path) -> None:
    tokenizer = make_byte_tokenizer(chat=chat)
    tokenizer.pad_token = tokenizer.eos_token
    scorer = SquishScorer(FrozenModel(make_tiny_model(seed=1)), tokenizer)
    rewards = [Noting(scorer=scorer), Noting("fair", scorer=scorer)]
    rows = [
        {"prompt": [{"role": "user", "content": text}] if chat else text + "<summary>", "document": text, "budget": b}
        for text in DOCUMENTS
        for b in ("20%", "30%")
    ]
    model = make_tiny_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    config = trl.GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=4,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = trl.GRPOTrainer(
        model, rewards, args=config, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()

    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logged) == len(rewards[0].calls) == 2
    assert any(not torch.equal(weight.cpu(), before[name]) for name, weight in model.named_parameters())
    for call, fair, entry in zip(rewards[0].calls, rewards[1].calls, logged, strict=True):
        assert isinstance(call["completions"][0], list if chat else str)
        assert call["document"] == [text for text in call["document"][::4] for _ in range(4)]  # whole groups
        assert set(call["budget"]) <= {"20%", "30%"}
        for first in (0, 4):
            document, budget = call["document"][first], call["budget"][first]
            scores = scorer.score(document, ["Ada wrote notes.", "July", None, "Ada"], budget)
            ok = scores.within_budget.tolist()
            worst = float(scores.score[scores.within_budget].min())
            expected = [float(s) if fits else worst - 0.01 for s, fits in zip(scores.score, ok, strict=True)]
            assert ok == [True, True, False, True]
            assert call["rewards"][first : first + 4] == pytest.approx(expected, abs=1e-6)
        mean = sum(call["rewards"]) / 8
        assert entry["rewards/squish/mean"] == pytest.approx(mean, abs=1e-6)
        assert entry["rewards/fair/mean"] == pytest.approx(sum(fair["rewards"]) / 8, abs=1e-6)
        assert entry["squish/valid"] == entry["fair/valid"] == 0.75
