"""SquishMetrics beside each other in a torchmetrics MetricCollection: each keeps its own scores."""

from __future__ import annotations

import copy
import io
import pickle
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from itertools import combinations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import make_byte_tokenizer, make_tiny_model
from torchmetrics import MetricCollection

from squish_pl.errors import SquishError
from squish_pl.score.metric import SquishMetric
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import SquishScorer

DOCUMENTS = [
    "The lighthouse at Marrow Point will be sold in May.",
    "A chess club has bought the old bakery on Hill Street.",
]
EQUAL = ["The", "A"]  # within both budgets: the first states are equal
LONGER = [document[: len(document) * 2 // 5] for document in DOCUMENTS]  # within 50 %, beyond 20 %
NONE = [None, None]


@cache
def scorer(seed: int = 0) -> SquishScorer:
    return SquishScorer(FrozenModel(make_tiny_model("qwen3", torch.float64, seed)), make_byte_tokenizer())


def alone(metric: SquishMetric, *updates: list) -> float:
    """What a new metric of the same settings shows without a collection around it."""
    single = SquishMetric(metric.scorer, metric.budget, metric.novel)
    for summaries in updates:
        single.update(DOCUMENTS, summaries)
    return float(single.compute())


def kinds() -> dict[str, SquishMetric]:
    return {
        "wide": SquishMetric(scorer(), "50%"),
        "tight": SquishMetric(scorer(), "20%"),
        "novel": SquishMetric(scorer(), "50%", novel=True),
        "other model": SquishMetric(scorer(1), "50%"),
        "same again": SquishMetric(scorer(), "50%"),
    }


def of_clones() -> dict[str, SquishMetric]:
    metric = SquishMetric(scorer(), "50%")
    buffer = io.BytesIO()
    pickle.dump(metric, buffer)
    copies = {"cloned": metric.clone(), "deep": copy.deepcopy(metric), "shallow": copy.copy(metric)}
    copies["shallow"].values = []
    copies["pickled"] = pickle.loads(buffer.getvalue())
    for one in copies.values():
        one.budget = SquishMetric(scorer(), "20%").budget
    return {"first": metric} | copies


@pytest.mark.parametrize("first", [EQUAL, NONE], ids=["equal scores", "nothing parsed"])
@pytest.mark.parametrize("make", [kinds, of_clones])
@pytest.mark.parametrize("prefixed", [False, True])
def test_metrics_whose_first_states_are_equal_stay_apart(
    make: Callable[[], dict[str, SquishMetric]], first: list, prefixed: bool
) -> None:
    collection = MetricCollection(make())
    if prefixed:
        collection = collection.clone(prefix="val/")
    collection.update(DOCUMENTS, first)
    before = {name: float(value) for name, value in collection.compute().items()}
    collection.update(DOCUMENTS, LONGER)
    assert all(len(group) == 1 for group in collection.compute_groups.values())
    values = {name: float(value) for name, value in collection.compute().items()}
    for name, metric in collection.items():
        assert before[name] == alone(metric, first)
        assert values[name] == alone(metric, first, LONGER)
        assert torch.cat(metric.values).tolist()[:2] == torch.cat(metric.values[:1]).tolist()
    budgets = [metric.budget for metric in collection.values()]
    assert len(set(budgets)) == 2
    tight = [values[name] for name, metric in collection.items() if str(metric.budget) == "20%"]
    wide = [values[name] for name, metric in collection.items() if str(metric.budget) == "50%"]
    assert not set(tight) & set(wide)


def test_two_of_the_same_settings_may_be_filled_apart() -> None:
    collection = MetricCollection({"one": SquishMetric(scorer(), "50%"), "two": SquishMetric(scorer(), "50%")})
    collection.update(DOCUMENTS, EQUAL)
    collection["one"].add([0.5])
    collection["two"].add([0.25])
    assert collection["one"].values[-1].tolist() == [0.5]
    assert collection["two"].values[-1].tolist() == [0.25]
    assert [len(torch.cat(metric.values)) for metric in collection.values()] == [3, 3]


def test_a_collection_reset_and_filled_again_stays_apart() -> None:
    collection = MetricCollection(kinds())
    collection.update(DOCUMENTS, NONE)
    collection.reset()
    collection.update(DOCUMENTS, LONGER)
    for metric in collection.values():
        assert float(metric.compute()) == alone(metric, LONGER)


def test_forward_shows_each_its_own() -> None:
    collection = MetricCollection(kinds())
    collection(DOCUMENTS, EQUAL)
    shown = collection(DOCUMENTS, LONGER)
    for name, metric in collection.items():
        assert float(shown[name]) == alone(metric, LONGER)
        assert float(metric.compute()) == alone(metric, EQUAL, LONGER)


@pytest.mark.parametrize("members", list(combinations(["wide", "tight", "novel", "same again"], 2)))
@pytest.mark.parametrize("way", ["update", "forward", "clone", "pickle"])
def test_a_compute_group_asked_for_is_refused(members: tuple[str, str], way: str) -> None:
    collection = MetricCollection(kinds(), compute_groups=[list(members)])
    (collection if way == "forward" else collection.update)(DOCUMENTS, EQUAL)
    if way == "clone":
        collection = collection.clone(prefix="val/")
    if way == "pickle":
        collection = pickle.loads(pickle.dumps(collection))
    with pytest.raises(SquishError, match=r"cannot share its scores.*compute_groups"):
        collection.compute()
    with pytest.raises(SquishError, match="cannot share its scores"):
        collection[("val/" if way == "clone" else "") + members[1]].estimate()


def test_a_compute_group_of_one_is_none() -> None:
    collection = MetricCollection(kinds(), compute_groups=[["wide"], ["tight"]])
    collection.update(DOCUMENTS, LONGER)
    assert float(collection.compute()["tight"]) == 0.0 != float(collection.compute()["wide"])


def test_a_state_dict_holds_scores_and_not_whose_they_are() -> None:
    metric, other = SquishMetric(scorer(), "50%"), SquishMetric(scorer(), "50%")
    metric.persistent(True)
    metric.update(DOCUMENTS, LONGER)
    state = metric.state_dict()
    assert list(state) == ["values"]
    other.load_state_dict(state, strict=False)
    assert float(other.compute()) == float(metric.compute())


def test_merging_on_purpose_still_works() -> None:
    one, two = SquishMetric(scorer(), "50%"), SquishMetric(scorer(), "50%")
    one.update(DOCUMENTS, EQUAL)
    two.update(DOCUMENTS, LONGER)
    one.merge_state(two)
    one.merge_state({"values": [torch.tensor([0.5], dtype=torch.float64)]})
    mean = (2 * alone(one, EQUAL) + 2 * alone(one, LONGER) + 0.5) / 5
    assert float(one.compute()) == pytest.approx(mean, rel=1e-12)
    assert float(two.compute()) == alone(two, LONGER)
    one.reset()
    one.update(DOCUMENTS, EQUAL)
    assert float(one.compute()) == alone(one, EQUAL)


def process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", timedelta(seconds=30), world_size=2, rank=rank)
    collection = MetricCollection(kinds())
    collection.update(DOCUMENTS[rank : rank + 1], EQUAL[rank : rank + 1])
    for turn in range(2):  # twice: unsynced states are the process's own again
        collection.update(DOCUMENTS[rank : rank + 1], LONGER[rank : rank + 1])
        values = {name: float(value) for name, value in collection.compute().items()}
        torch.save(values, f"{folder}/{rank}-{turn}.pt")
    metric = collection["wide"]
    with metric.sync_context():
        copied = pickle.loads(pickle.dumps(metric))
    copied.unsync()
    torch.save(copied.estimate()[0], f"{folder}/{rank}-copied.pt")
    dist.destroy_process_group()


def test_processes_gather_each_metric_of_a_collection(tmp_path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(process, (port, str(tmp_path)), nprocs=2)
    for turn in range(2):
        wanted = {name: alone(m, EQUAL, *[LONGER] * (turn + 1)) for name, m in kinds().items()}
        for rank in range(2):
            assert torch.load(tmp_path / f"{rank}-{turn}.pt") == pytest.approx(wanted, rel=1e-12)
    for rank in range(2):
        own = SquishMetric(scorer(), "50%")
        for summaries in (EQUAL, LONGER, LONGER):
            own.update(DOCUMENTS[rank : rank + 1], summaries[rank : rank + 1])
        assert torch.load(tmp_path / f"{rank}-copied.pt") == pytest.approx(float(own.compute()), rel=1e-12)
