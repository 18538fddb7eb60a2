"""Several processes that talk over gloo end where one does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from several import difference, fit, make_module, run, write_documents

from squish_pl.rl.entropy_control import EntropyBonus, KlCov
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.warm_start import WarmStartSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    write_documents(folder)
    return folder


def assert_equal(alone: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    for part in parts:
        assert difference(alone["adapter"], part["adapter"]) < 1e-8
        assert difference(alone["moments"], part["moments"]) < 1e-8
        assert difference(parts[0]["adapter"], part["adapter"]) == 0.0  # to the last bit among themselves
        assert part["rounds"] == [pytest.approx(figures, rel=1e-8, abs=1e-12) for figures in alone["rounds"]]
        assert part["validated"] == alone["validated"]
        assert part["validations"].keys() == alone["validations"].keys()
        for number, figures in alone["validations"].items():
            assert part["validations"][number] == pytest.approx(figures, rel=1e-8)


# a control that looks at the whole batch, log-probs of the first pass, and a warm start before
HARD = partial(
    make_module,
    learn=LearnSettings(policy_passes=3, advantage="mean_std", old_log_probs="first_pass"),
    entropy=KlCov("120%"),
    warm_start=WarmStartSettings(rounds=1, least_used=0.1, keep=0.5, passes=3),
)


def test_two_processes_end_in_the_adapter_of_one(folder: Path) -> None:
    (alone,) = run(1, fit, folder, folder, "one", 1, module=HARD, predict=True)
    parts = run(2, fit, folder, folder, "two", 2, module=HARD, predict=True)
    assert_equal(alone, parts)
    for name in ("said.jsonl", "results.json"):
        assert (folder / "two" / name).read_text().count("\n") == (folder / "one" / name).read_text().count("\n")
    assert (folder / "two" / "said.jsonl").read_bytes() == (folder / "one" / "said.jsonl").read_bytes()
    # each did a part of the work, in numbers of slices of its own: nobody waited for another's slice
    assert sum(part["clock"]["policy"] for part in parts) == alone["clock"]["policy"]
    assert sum(part["clock"]["scoring"] for part in parts) == alone["clock"]["scoring"]
    assert all(part["clock"]["rollout"] for part in parts)
    assert any(a != b for a, b in zip(*[part["backwards"] for part in parts], strict=True))
    # groups that teach nothing were left out, the odd document had a process, and both knew the whole batch
    assert any(figures.get("reward/zero_spread", 0) > 0 for figures in alone["rounds"])
    assert "warm/loss" in alone["rounds"][0]
    assert any(figures.get("entropy/penalty", 0) > 0 for figures in alone["rounds"])
    assert parts[0]["available"] == parts[1]["available"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "batch_size", "module"),
    [
        pytest.param(3, 5, HARD, id="control"),
        pytest.param(2, 7, make_module, id="plain"),
        pytest.param(5, 7, make_module, id="more-than-documents-to-validate"),
        pytest.param(3, 6, partial(make_module, entropy=EntropyBonus("120%", step=0.05)), id="bonus"),
    ],
)
def test_so_do_more(folder: Path, devices: int, batch_size: int, module: Any) -> None:
    (alone,) = run(1, fit, folder, folder, "alone", 1, module=module, batch_size=batch_size)
    parts = run(devices, fit, folder, folder, f"of-{devices}", devices, module=module, batch_size=batch_size)
    assert_equal(alone, parts)


@pytest.mark.slow
def test_summaries_that_some_documents_have_are_learnt_alike(folder: Path) -> None:
    module = partial(make_module, warm_start=WarmStartSettings(rounds=3, source="highlights", least_used=0.1))
    (alone,) = run(1, fit, folder, folder, "given", 1, module=module)
    assert_equal(alone, run(2, fit, folder, folder, "given-2", 2, module=module))
    assert any(0 < figures["warm/documents"] < 1 for figures in alone["rounds"])


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(folder: Path) -> None:
    (alone,) = run(1, fit, folder, folder, "all", 1, rounds=4, module=HARD)
    whole = run(2, fit, folder, folder, "all-2", 2, rounds=4, module=HARD)
    run(2, fit, folder, folder, "half", 2, rounds=2, module=HARD)
    checkpoint = str(folder / "half" / "last.ckpt")
    two = run(2, fit, folder, folder, "rest-2", 2, rounds=4, module=HARD, resume=checkpoint)
    assert difference(whole[0]["adapter"], two[0]["adapter"]) == 0.0  # the same number: to the last bit
    assert whole[0]["validations"] == two[0]["validations"]
    (one,) = run(1, fit, folder, folder, "rest-1", 1, rounds=4, module=HARD, resume=checkpoint)
    three = run(3, fit, folder, folder, "rest-3", 3, rounds=4, module=HARD, resume=checkpoint)
    for other in (one, *three):
        assert other["round"] == 4
        assert difference(alone["adapter"], other["adapter"]) < 1e-8
        assert difference(alone["moments"], other["moments"]) < 1e-8


@pytest.mark.slow
def test_running_out_of_memory_on_one_process_changes_its_sizes_alone(folder: Path) -> None:
    (alone,) = run(1, fit, folder, folder, "plenty", 1)
    parts = run(2, short_of_memory, folder, folder)
    assert parts[1]["learning"] < parts[0]["learning"]
    assert_equal(alone, parts)


def short_of_memory(folder: Path) -> dict[str, Any]:
    """Process 2 runs out of memory once, in its first policy pass."""

    def module() -> Any:
        model = make_module()
        learn, left = model.learner._learn, [torch.OutOfMemoryError("CUDA out of memory")]

        def short(*args: Any) -> None:
            learn(*args)
            if torch.distributed.get_rank() == 1 and left:
                raise left.pop()

        model.learner._learn = short  # type: ignore[method-assign]
        return model

    return fit(folder, "short", 2, module=module)
