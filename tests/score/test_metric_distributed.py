"""SquishMetric on two real processes that talk over gloo."""

from __future__ import annotations

import json
import random
import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from score_brute_force import random_summaries, random_text
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl.score.metric import SquishMetric
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer


def make_scorer() -> SquishScorer:
    return SquishScorer(FrozenModel(make_tiny_model("llama", torch.float64)), make_byte_tokenizer())


def make_texts() -> tuple[list[str], list[str]]:
    """Seven documents with a summary each, and at last one without tokens."""
    draw = random.Random(3)
    documents = [random_text(draw, draw.randint(8, 20)) for _ in range(7)]
    return [*documents, ""], [random_summaries(draw, document, 1)[0] for document in documents] + ["x"]


def fill(metric: SquishMetric, begin: int, end: int) -> None:
    """One update for each document; none at all for an empty share."""
    documents, summaries = make_texts()
    for i in range(begin, end):
        metric.update(documents[i : i + 1], summaries[i : i + 1])


def results_of(metric: SquishMetric) -> dict[str, object]:
    mean = float(metric.compute())
    interval = metric.interval()
    metric.sync()
    all_interval = metric.interval()
    metric.unsync()
    return {"mean": mean, "interval": interval, "all_interval": all_interval}


def process(rank: int, port: int, cases: dict[str, list[tuple[int, int]]], folder: str) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", address, timedelta(seconds=30), world_size=2, rank=rank)
    scorer, results = make_scorer(), {}
    for name, shares in cases.items():
        metric = SquishMetric(scorer, budget=None)
        fill(metric, *shares[rank])
        results[name] = results_of(metric)
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def run(cases: dict[str, list[tuple[int, int]]], folder: Path) -> list[dict[str, dict[str, object]]]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(process, (port, cases, str(folder)), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param({"5 and 2": [(0, 5), (5, 7)], "1 and 6": [(0, 1), (1, 7)]}, id="uneven"),
        pytest.param(
            {"0 and 7": [(0, 0), (0, 7)], "7 and 0": [(0, 7), (7, 7)], "no tokens": [(7, 8), (0, 7)]},
            id="nothing on one",
        ),
    ],
)
def test_two_processes_equal_one(cases: dict[str, list[tuple[int, int]]], tmp_path: Path) -> None:
    parts = run(cases, tmp_path)
    for name, shares in cases.items():
        whole = SquishMetric(make_scorer(), budget=None)
        for share in shares:
            fill(whole, *share)
        for part, share in zip(parts, shares, strict=True):
            assert part[name]["mean"] == pytest.approx(float(whole.compute()), rel=1e-9, abs=0)
            assert part[name]["all_interval"] == pytest.approx(list(whole.interval()), rel=1e-9, abs=0)
            if share[0] < share[1]:  # once unsynced, a process knows its own documents again
                own = SquishMetric(make_scorer(), budget=None)
                fill(own, *share)
                # a single document has no interval
                assert part[name]["interval"] == pytest.approx(list(own.interval()), rel=1e-9, abs=0, nan_ok=True)
