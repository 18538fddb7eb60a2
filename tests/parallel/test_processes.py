"""Shares, and what is sent between processes."""

from __future__ import annotations

import os

import pytest
import torch
from groups import make_group, make_scores
from several import run

from squish_pl.parallel import processes
from squish_pl.parallel.ending import SharedError
from squish_pl.rl.figures import PassTotals
from squish_pl.rl.rewards import GroupRewards
from squish_pl.rl.shares import Judged, own_rows, whole_batch, whole_pass
from squish_pl.types import Document, Experience


def test_one_process_has_all_and_waits_for_nobody():
    assert list(processes.share(3)) == [0, 1, 2]
    assert processes.gather("a") == ["a"]
    assert processes.of_node(1) == [1]
    processes.agree("a", "never")
    gradient = torch.ones(2)
    processes.add_up([gradient])
    assert gradient.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("count", [0, 1, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_put_back_in_order_are_the_whole(count, size):
    whole = list(range(count))
    assert processes.in_order([whole[rank::size] for rank in range(size)]) == whole
    assert processes.in_order([[None, None], [None]]) == [None, None, None]


def talk():
    """What three connected processes exchange."""
    torch.distributed.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]))
    rank = processes.rank()
    tensors = [torch.full((2, 2), float(10**rank)), torch.full((1,), float(rank))]
    processes.add_up(tensors)
    told: dict[str, object] = {"share": list(processes.share(7)), "sums": tensors, "node": processes.of_node(rank)}
    processes.agree("same", "never")
    try:
        processes.agree(rank // 2, "they differ")
    except SharedError as error:
        told["error"] = str(error)
    told |= exchange(rank)
    torch.distributed.barrier()
    return told


def exchange(rank: int) -> dict[str, object]:
    documents = [Document(f"document {i}", str(i)) for i in range(4)]
    places = [place for place in processes.share(4) if place != 2]  # the third has no summaries
    groups = [make_group([place + 1, 1]) for place in places]
    rewards = [torch.tensor([float(place), 0.0], dtype=torch.float64) for place in places]
    own = Judged(
        groups,
        [make_scores([place / 10, 0.0]) for place in places],
        [
            GroupRewards(r, torch.ones(2, dtype=torch.bool), {"squish": r}, torch.ones(2, dtype=torch.bool))
            for r in rewards
        ],
        rewards,
    )
    prompts = {place: group.prompt for place, group in zip(places, groups, strict=True)}
    judged = whole_batch(documents, prompts, own)
    first, second, third = (torch.tensor([i]) for i in range(3))
    rows = [
        Experience(prompt, torch.arange(length), torch.zeros(length), 1.0, 1.0)
        for prompt, length in ((first, 1), (first, 2), (second, 3), (third, 4), (third, 5))
    ]
    parameter = torch.nn.Parameter(torch.zeros(2))
    if rank == 1:
        parameter.grad = torch.ones(2)
    mine = own_rows(rows)
    totals = PassTotals(tokens=1, loss=float(rank), log_probs=[row.completion_ids.double() for row in mine])
    totals.sums = {"ratio": 2.0} if rank else {}
    totals = whole_pass(rows, totals, [parameter], with_log_probs=True)
    return {
        "rewards": [float(of_one.total[0]) for of_one in judged.rewarded],
        "lengths": [int(group.lengths[0]) for group in judged.groups],
        "token_saved": judged.scores[0].token_saved.shape,
        "own_rows": [len(row.completion_ids) for row in mine],
        "log_probs": [len(values) for values in totals.log_probs],
        "totals": (totals.tokens, totals.loss, totals.sums, totals.penalty),
        "grad": parameter.grad,
    }


def test_three_processes_exchange_what_each_of_them_has(tmp_path):
    parts = run(3, talk, tmp_path)
    assert [part["share"] for part in parts] == [[0, 3, 6], [1, 4], [2, 5]]
    for part in parts:
        assert part["sums"][0].tolist() == [[111.0, 111.0], [111.0, 111.0]]
        assert part["sums"][1].tolist() == [3.0]
        assert part["node"] == [0, 1, 2]
        assert part["error"] == "they differ"
        assert part["rewards"] == [0.0, 1.0, 3.0]
        assert part["lengths"] == [1, 2, 4]
        assert part["token_saved"] == (2, 0)
        assert part["log_probs"] == [1, 2, 3, 4, 5]
        assert part["totals"] == (3, 3.0, {"ratio": 4.0}, None)
        assert part["grad"].tolist() == [1.0, 1.0]
    assert [part["own_rows"] for part in parts] == [[1, 2], [3], [4, 5]]
