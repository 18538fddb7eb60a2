"""inspect_ai's own evaluation scores summaries, of a fixed model's and of a tiny one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai")

import inspect_ai
from inspect_ai.model import Model, ModelOutput, ModelUsage, get_model

from squish_pl.integrations.inspect import squish, summary_dataset
from squish_pl.integrations.reward import shared_reward

DOCUMENT = "Ada Lovelace wrote notes on an engine that was never built. " * 3


@pytest.fixture
def settings(tiny_model_folder: Path) -> dict[str, Any]:
    return {"base": str(tiny_model_folder), "device": "cpu"}


def fixed_model(answers: list[str]) -> Model:
    """Gives answers in turn, with their usage: the model would count tokens with a vocabulary from the network."""
    outputs = [ModelOutput.from_content("mockllm/model", text) for text in answers]
    for output in outputs:
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def evaluate(model: Any, settings: dict[str, Any], budgets: list[str], folder: Path) -> Any:
    task = inspect_ai.Task(dataset=summary_dataset([DOCUMENT], budgets, **settings), scorer=squish(**settings))
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(folder), display="none", max_tokens=4)
    assert log.status == "success", log.error
    return log


def test_scores_and_their_mean(settings: dict[str, Any], tmp_path: Path) -> None:
    answers = ["<summary>Ada wrote.</summary>", "Sure! <summary>built</summary>", "no tags"]
    log = evaluate(fixed_model(answers), settings, ["20%", "30%", "40%"], tmp_path)
    given = {sample.metadata["budget"]: sample.scores["squish"] for sample in log.samples}
    by_answer = {score.answer: score for score in given.values()}
    scorer = shared_reward(**settings).scorer
    expected = {None: 0.0}
    for budget, score in given.items():
        if score.answer is not None:
            expected[score.answer] = float(scorer.score(DOCUMENT, [score.answer], budget).score)
    assert set(by_answer) == {"Ada wrote.", "built", None}
    assert {a: s.value["squish"] for a, s in by_answer.items()} == pytest.approx(expected, abs=1e-6)
    assert {a: s.value["valid"] for a, s in by_answer.items()} == {"Ada wrote.": 1.0, "built": 1.0, None: 0.0}
    means = {result.name: result.metrics["mean"].value for result in log.results.scores}
    assert means == pytest.approx({"squish": sum(expected.values()) / 3, "valid": 2 / 3}, abs=1e-6)
    assert f"at most {int(0.2 * len(DOCUMENT))} characters" in log.samples[0].input[0].content


def test_two_samples_of_a_local_model(settings: dict[str, Any], tiny_model_folder: Path, tmp_path: Path) -> None:
    model = get_model("hf/tiny", model_path=str(tiny_model_folder), device="cpu", memoize=False)
    log = evaluate(model, settings, ["10%", "20%"], tmp_path)
    assert len(log.samples) == 2
    for sample in log.samples:
        assert sample.output.usage.output_tokens == 4
        assert sample.scores["squish"].value == {"squish": 0.0, "valid": 0.0}  # four tokens close no summary


def test_metadata_without_a_document(settings: dict[str, Any], tmp_path: Path) -> None:
    task = inspect_ai.Task(dataset=[inspect_ai.dataset.Sample(input="?")], scorer=squish(**settings))
    (log,) = inspect_ai.eval(task, model=fixed_model(["Ada"]), log_dir=str(tmp_path), display="none")
    assert log.status == "error"
    assert "hold 'document', but it has nothing" in log.error.message
