"""A control of the entropy on the real command line: named in YAML, logged, resumed, and told when it is wrong."""

import pytest
import torch
from cli_tools import run_cli, tiny_arguments
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CONTROL = """
model:
  learn: {policy_passes: 2}
  entropy:
    class_path: {class_path}
    init_args: {target: {target}}
"""


def settings(folder, class_path="squish_pl.rl.entropy_control.RepoR", target='"90%"'):
    path = folder / "control.yaml"
    path.write_text(CONTROL.replace("{class_path}", class_path).replace("{target}", target))
    return ["--config", str(path)]


def adapter(folder):
    return load_file(folder / "run" / "last" / "adapter_model.safetensors")


def test_a_run_with_a_control_and_its_resumption(tiny_model_folder, tmp_path, capsys):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    control = settings(tmp_path)
    code, _, err = run_cli(["fit", *tiny_arguments(tiny_model_folder, whole, rounds=4), *control], capsys)
    assert code == 0, err
    events = EventAccumulator(str(next((whole / "runs").rglob("events.out*")).parent))
    events.Reload()
    entropies, targets, zetas = (
        [point.value for point in events.Scalars(key)] for key in ("rollout/entropy", "entropy/target", "entropy/zeta")
    )
    assert targets == pytest.approx([0.9 * entropies[0]] * 2, rel=1e-6)
    # the first round is above the target, so zeta changes its sign; every further one doubles or halves it
    assert zetas[0] == pytest.approx(-1e-4)
    assert zetas[1] == pytest.approx(-2e-4 if entropies[1] > targets[1] else 1e-4)
    assert "entropy control: RepoR(target=90%, strength=" in (whole / "run" / "last" / "README.md").read_text()

    for steps, more in ((2, []), (4, ["--ckpt_path", "last"])):
        arguments = tiny_arguments(tiny_model_folder, halves, rounds=steps)
        code, _, err = run_cli(["fit", *arguments, *control, *more], capsys)
        assert code == 0, err
    checkpoints = [torch.load(folder / "run" / "last.ckpt", weights_only=True) for folder in (whole, halves)]
    assert checkpoints[0]["squish"]["entropy"] == checkpoints[1]["squish"]["entropy"]
    assert checkpoints[0]["squish"]["entropy"]["RepoR"]["strength"] == pytest.approx(zetas[1], rel=1e-6)
    one, other = adapter(whole), adapter(halves)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("class_path", "target", "words"),
    [
        (
            "squish_pl.rl.entropy_control.Nothing",
            "1.0",
            ["A control of the entropy has a class_path (RepoR, EntropyBonus, Adapo, KlCov"],
        ),
        ("KlCov", "[1, 2]", ["target"]),
        ("KlCov", "-1", ["model.entropy (KlCov): target must be a number of nats above 0"]),
    ],
)
def test_a_control_that_is_none_is_one_message(class_path, target, words, tiny_model_folder, tmp_path, capsys):
    arguments = tiny_arguments(tiny_model_folder, tmp_path)
    code, out, err = run_cli(["fit", *arguments, *settings(tmp_path, class_path, target)], capsys)
    assert code == 2
    assert "Traceback" not in out + err
    for word in words:
        assert word in err
