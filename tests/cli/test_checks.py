"""Trainer settings that have no meaning here, each told in this project's own words."""

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, Timer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from squish_pl.cli.checks import (
    callback_problems,
    monitor_problems,
    setting_problems,
    share_problems,
    trainer_problems,
)
from squish_pl.lm.loading import BaseModel
from squish_pl.rl.validation import ValidationSettings
from squish_pl.score.measures.copies import Novel
from squish_pl.score.measures.support import Support

GOOD = {"max_steps": 12, "max_epochs": None, "accumulate_grad_batches": 1, "limit_train_batches": None}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"gradient_clip_val": 1.0}, ["trainer.gradient_clip_val", "model.optimizer.max_grad_norm"]),
        ({"overfit_batches": 1}, ["trainer.overfit_batches", "data.documents"]),
        ({"accumulate_grad_batches": 2}, ["trainer.accumulate_grad_batches", "data.batch_size"]),
        ({"enable_checkpointing": False}, ["trainer.enable_checkpointing", "checkpoint.dirpath"]),
        ({"barebones": True}, ["trainer.barebones"]),
        ({"max_steps": -1, "max_epochs": 1}, ["trainer.max_epochs is 1", "trainer.max_steps"]),
        ({"max_steps": -1}, ["no end", "trainer.max_steps"]),
        ({"max_steps": -1, "max_epochs": -1}, ["no end"]),
        ({"max_steps": -1, "max_epochs": 2, "limit_train_batches": 5}, []),
        ({"max_steps": -1, "max_epochs": 2, "limit_train_batches": 0.5}, ["trainer.max_epochs is 2"]),
        ({"max_steps": -1, "max_time": "00:01:00:00"}, []),
        ({"max_steps": -1, "callbacks": [Timer("00:00:01:00")]}, []),
        ({"max_steps": -1, "fast_dev_run": True}, []),
    ],
)
def test_each_is_one_message_that_names_the_right_key(settings, expected):
    found = setting_problems(GOOD | settings, fits=True)
    assert len(found) == bool(expected)
    assert all(words in found[0] for words in expected)


def test_only_training_needs_an_end():
    assert setting_problems(GOOD | {"max_steps": -1}, fits=False) == []


def test_callbacks_that_cannot_work_are_named_and_others_are_not():
    own = [EarlyStopping("val/squish"), GradientAccumulationScheduler({0: 2})]
    (problem,) = callback_problems(own)
    assert "GradientAccumulationScheduler" in problem
    assert "data.batch_size" in problem


def test_the_monitor_must_be_a_figure_of_the_validation():
    validation = ValidationSettings(budgets=["10%", "64 tokens"])
    assert monitor_problems(None, validation) == []
    assert monitor_problems("val/novel@64 tokens", validation) == []
    (problem,) = monitor_problems("val/audit_squish", validation)
    assert "'val/audit_squish'" in problem
    assert "val/squish@10%" in problem
    assert monitor_problems("val/audit_squish", ValidationSettings(audit=BaseModel("a/b"))) == []
    measures = [Novel(2), Support()]
    assert monitor_problems("val/novel_2@64 tokens", validation, measures) == []
    for monitor, carried in (("val/novel_2", []), ("val/support", measures)):
        assert len(monitor_problems(monitor, validation, carried)) == 1


def make_trainer(devices: int = 1, strategy: str | Strategy = "auto", nodes: int = 1) -> Trainer:
    return Trainer(accelerator="cpu", devices=devices, strategy=strategy, num_nodes=nodes, logger=False)


@pytest.mark.parametrize(
    ("trainer", "environment", "expected"),
    [
        ({}, {}, []),
        ({"devices": 2}, {}, []),
        ({"devices": 2, "strategy": "ddp", "nodes": 3}, {"WORLD_SIZE": "6"}, []),
        ({"devices": 2}, {"WORLD_SIZE": "2", "SLURM_NTASKS": "1"}, []),
        ({}, {"WORLD_SIZE": "2"}, ["2 processes were started", "trainer.num_nodes is 1"]),
        ({"devices": 3}, {"WORLD_SIZE": "2"}, ["2 processes were started", "is 3"]),
        ({}, {"SLURM_NTASKS": "2"}, ["2 processes were started", "start one process"]),
        ({"devices": 2}, {"SLURM_NTASKS": "2"}, []),
        ({}, {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"}, []),
        ({"devices": 2, "strategy": ModelParallelStrategy()}, {}, ["ModelParallelStrategy: a sharded model", "docs/"]),
        ({"devices": 2, "strategy": "ddp_spawn"}, {}, ["trainer.strategy must be ddp", "spawned"]),
        ({"devices": 2, "strategy": "ddp_fork"}, {}, ["trainer.strategy must be ddp", "forked"]),
    ],
)
def test_devices_and_processes_have_to_fit_each_other(trainer, environment, expected):
    found = trainer_problems(make_trainer(**trainer), environment)
    assert len(found) == bool(expected)
    assert all(words in found[0] for words in expected)


def test_every_device_needs_a_document():
    assert share_problems(3, 3) == []
    (problem,) = share_problems(2, 3)
    assert "data.batch_size must be at least the number of devices, 3, but is 2" in problem
