"""verl loads the reward by its own loader, and its reward managers call it with their own arguments.

verl itself needs other versions of transformers than those tested here, so its managers run where it is installed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tiny import make_byte_tokenizer

from squish_pl.errors import DataError
from squish_pl.integrations.reward import shared_reward
from squish_pl.integrations.verl import compute_score, compute_scores

DOCUMENT = "Ada Lovelace wrote notes on an engine that was never built. " * 3
TEXTS = ["Ada wrote.</summary>", "an engine", "built</summary>"]


@pytest.fixture
def settings(tiny_model_folder: Path) -> dict[str, Any]:
    return {"base": str(tiny_model_folder), "device": "cpu"}


def expected(settings: dict[str, Any], budget: str) -> list[float]:
    scores = shared_reward(**settings).scorer.score(DOCUMENT, ["Ada wrote.", None, "built"], budget)
    return [float(score) for score in scores.score]


def test_one_and_many(settings: dict[str, Any]) -> None:
    wanted = expected(settings, "20%")
    info = {"document": DOCUMENT, "budget": "20%", "num_turns": None, "rollout_reward_scores": {}}
    one = [compute_score("news", text, "", info, **settings) for text in TEXTS]
    many = compute_scores(["news"] * 3, TEXTS, [""] * 3, [info] * 3, **settings)
    assert one == many
    assert [result["score"] for result in many] == pytest.approx(wanted, abs=1e-6)
    assert [result["valid"] for result in many] == [1.0, 0.0, 1.0]
    assert compute_score("news", TEXTS[0], "", {"document": DOCUMENT}, budget="20%", **settings) == one[0]
    with pytest.raises(DataError, match="hold 'document', but it has nothing"):
        compute_score("news", TEXTS[0], "", None, **settings)


def test_the_reward_managers_of_verl(settings: dict[str, Any]) -> None:
    pytest.importorskip("verl")
    import numpy as np
    import torch
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo.reward import load_reward_manager
    from verl.workers.reward_manager.batch import BatchRewardManager

    tokenizer = make_byte_tokenizer()
    ids = [tokenizer(text).input_ids for text in TEXTS]
    responses = torch.zeros(3, 32, dtype=torch.long)
    mask = torch.zeros(3, 2 + 32, dtype=torch.long)
    mask[:, :2] = 1
    for row, own in enumerate(ids):
        responses[row, : len(own)] = torch.tensor(own)
        mask[row, 2 : 2 + len(own)] = 1
    data = DataProto.from_dict(
        tensors={"prompts": torch.ones(3, 2, dtype=torch.long), "responses": responses, "attention_mask": mask},
        non_tensors={
            "data_source": np.array(["news"] * 3, dtype=object),
            "reward_model": np.array([{"ground_truth": ""} for _ in range(3)], dtype=object),
            "extra_info": np.array([{"document": DOCUMENT, "budget": "20%"} for _ in range(3)], dtype=object),
        },
    )
    function = {"path": "pkg://squish_pl.integrations.verl", "name": "compute_score", "reward_kwargs": settings}
    manager = {"source": "register", "name": "naive"}
    config = OmegaConf.create({"reward": {"custom_reward_function": function, "reward_manager": manager}})

    async def one_by_one() -> list[dict[str, Any]]:
        naive = load_reward_manager(config, tokenizer)
        return [await naive.run_single(data[row : row + 1]) for row in range(3)]

    results = asyncio.run(one_by_one())
    wanted = expected(settings, "20%")
    assert [result["reward_score"] for result in results] == pytest.approx(wanted, abs=1e-6)
    assert [result["reward_extra_info"]["valid"] for result in results] == [1.0, 0.0, 1.0]

    batch = BatchRewardManager(tokenizer, num_examine=0, compute_score=compute_scores, **settings)
    tensor = batch(data)
    assert tensor.sum(dim=1).tolist() == pytest.approx(wanted, abs=1e-6)
    assert [int(row.nonzero()) for row in tensor[[0, 2]]] == [len(ids[0]) - 1, len(ids[2]) - 1]
