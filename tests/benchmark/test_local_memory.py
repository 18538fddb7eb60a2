"""Local models leave memory when they are done, and what cannot run is found out."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from local_models import BUDGETS, DOCUMENTS, answers, local, save_models
from tiny import make_byte_tokenizer, make_tiny_model
from transformers import MambaConfig, MambaForCausalLM

from squish_pl.benchmark.records import Outcome, Task
from squish_pl.errors import ModelError
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.padded import PaddedDecoder, PaddedPasses
from squish_pl.policy.shared_prefix import SharedPrefixDecoder, SharedPrefixPasses
from squish_pl.policy.trials import choose_passes, decoding_problem


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


def test_two_models_are_never_in_memory_together(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    seen = []
    init = Backbone.__init__

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        seen.append(len(alive))
        alive.update(p for p in self.parameters())

    monkeypatch.setattr(Backbone, "__init__", counted)
    tasks = local(folders["qwen3"]).tasks(DOCUMENTS, BUDGETS)
    for name in ("adapter1", "adapter2"):
        contender = local(folders["qwen3"], adapter=str(folders[name]))
        running = contender.summarise(tasks)
        next(running)  # nobody asks for the rest
        contender.close()
        contender.close()
    assert seen == [0, 0]
    assert len(alive) == 0


def test_weights_go_even_where_an_error_still_holds_the_model(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, *args: Any) -> None:
        raise RuntimeError("the power is out")

    contender = local(folders["qwen3"])
    tasks = contender.tasks(DOCUMENTS, BUDGETS)
    running = contender.summarise(tasks)
    next(running)
    assert contender._engine is not None
    backbone = contender._engine.backbone
    parameters = [weakref.ref(p) for p in backbone.parameters()]
    monkeypatch.setattr(SharedPrefixDecoder, "step", broken)
    with pytest.raises(RuntimeError, match="power") as caught:
        list(running)
    contender.close()
    assert caught.value.__traceback__ is not None
    assert {p.device.type for p in backbone.parameters()} == {"meta"}
    assert all(parameter() is None for parameter in parameters)


def test_running_out_of_memory_halves_and_fails_one_document_alone(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = local(folders["qwen3"], rows=4)
    tasks = contender.tasks(DOCUMENTS, ["60%"])
    expected = answers(contender, tasks)
    prefill, sizes = SharedPrefixDecoder.prefill, []

    def short(self: Any, prompts: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 1 or prompts[0].document == DOCUMENTS[1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return prefill(self, prompts)

    monkeypatch.setattr(SharedPrefixDecoder, "prefill", short)
    given = answers(contender, tasks)
    assert sizes[:3] == [1, 3, 1]  # the shortest document has a cap of its own, and comes first
    failed = given.pop(tasks[1])
    assert failed.outcome is Outcome.FAILED
    assert "out of memory in a rollout of 1 rows" in failed.reason
    assert "lower samples" in failed.reason
    assert given == {task: answer for task, answer in expected.items() if task != tasks[1]}


def test_logits_that_are_not_finite_fail(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for temperature in (0.0, 1.0):
        contender = local(folders["qwen3"], temperature=temperature)
        running = contender.summarise(contender.tasks(DOCUMENTS, ["60%"]))
        next(running)
        with monkeypatch.context() as patch:
            patch.setattr(
                SharedPrefixDecoder, "step", lambda self, tokens: torch.full((len(tokens), 258), float("nan"))
            )
            failed = list(running)
        assert len(failed) == 3
        assert all(answer.outcome is Outcome.FAILED for _, answer in failed)
        assert all(answer.reason.startswith("the model's logits are not finite") for _, answer in failed)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=258, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.3)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    make_byte_tokenizer().save_pretrained(tmp_path)
    contender = local(tmp_path, attention="eager")
    with pytest.raises(ModelError, match="a MambaForCausalLM cannot be made to write here"):
        list(contender.summarise([Task(DOCUMENTS[0], "60%")]))


def test_a_decoder_that_forgets_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(make_tiny_model(), make_byte_tokenizer(), lora=None)
    for wanted in ("shared_prefix", "padded"):
        choose_passes(backbone.policy, wanted)  # type: ignore[arg-type]
        assert decoding_problem(backbone.policy) is None
    keep = PaddedDecoder.keep
    monkeypatch.setattr(PaddedDecoder, "keep", lambda self, rows: keep(self, rows.flip(0)))
    assert "differed" in (decoding_problem(backbone.policy) or "")


def test_nothing_is_put_aside_for_learning(folders: dict[str, Path]) -> None:
    contender = local(folders["qwen3"], adapter=str(folders["adapter1"]))
    list(contender.summarise([Task(DOCUMENTS[2], "60%")]))
    assert contender._engine is not None
    costs = contender._engine.plan.costs
    assert (costs.gradients, costs.optimizer_state) == (0, 0)
    backbone = contender._engine.backbone
    assert costs.weights == sum(p.numel() * p.element_size() for p in backbone.parameters())


def test_the_padded_way_holds_a_prompt_for_every_row() -> None:
    backbone = Backbone(make_tiny_model(), make_byte_tokenizer(), lora=None)
    costs = Costs(backbone)
    needed = {}
    for passes in (SharedPrefixPasses(backbone.policy), PaddedPasses(backbone.policy)):
        backbone.policy.passes = passes
        needed[passes.name] = costs.rollout(3, 100, 6, 10)
    # two more prompts in the prefill, three more prompts' keys and values, and half of a layer's while rows leave
    kept = 3 * 100 * costs.cache_bytes
    assert needed["padded"] - needed["shared_prefix"] == int(2 * 100 * costs._forward) + kept + kept // 4
