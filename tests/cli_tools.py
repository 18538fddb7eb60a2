"""Running the real command line on a tiny model."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from squish_pl.cli.main import main


def tiny_arguments(model: Path, folder: Path, rounds: int = 2) -> list[str]:
    """Arguments of a run of seconds: smollm2.yaml with a tiny random model that closes a summary now and then."""
    return [
        "--config",
        "smollm2.yaml",
        f"--model.base_model.base={model}",
        "--model.base_model.gguf_file=null",
        '--model.prompt={"close_tag": "H", "chat": "never"}',
        '--model.rollout.budgets=["60%"]',
        '--model.validation.budgets=["10%", "20 tokens"]',
        "--model.rollout.max_new_tokens=82",
        "--model.rollout.group_size=4",
        '--model.warm_start={"rounds": 0, "source": "samples", "learning_rate": null, "least_used": 0.6}',
        "--model.score.measures=[]",
        '--model.rewards=[{"class_path": "Squish"}]',
        "--model.learn.length.power=0",
        "--model.memory.micro_batch_tokens=500",
        "--model.optimizer.learning_rate=0.01",
        "--model.score.batch_tokens=4096",
        "--data.max_tokens=120",
        "--data.batch_size=2",
        "--data.validation_size=3",
        f"--checkpoint.dirpath={folder / 'run'}",
        f"--trainer.logger.init_args.save_dir={folder / 'runs'}",
        f"--trainer.max_steps={rounds}",
        "--trainer.val_check_interval=2",
    ]


def dashboard(folder: Path) -> EventAccumulator:
    """What the only run in a folder of `tiny_arguments` has shown in TensorBoard."""
    (file,) = (folder / "runs").rglob("events.out*")
    found = EventAccumulator(str(file.parent))
    found.Reload()
    return found


def run_cli(arguments: list[str], capsys) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command run in this process."""
    capsys.readouterr()
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
