"""Data for verl, and the reward as verl itself loads and calls it; see smollm2.py for the judge.

A training run then takes, beside verl's own settings:

    data.train_files=verl.parquet reward.custom_reward_function.path=pkg://squish_pl.integrations.verl
    reward.custom_reward_function.name=compute_score +reward.custom_reward_function.reward_kwargs.base=smollm2
"""

from datasets import Dataset
from omegaconf import OmegaConf
from verl.trainer.ppo.reward import get_custom_reward_fn

from squish_pl.benchmark.documents import load_documents
from squish_pl.integrations.reward import SummaryReward

reward = SummaryReward()  # words the requests; no model is loaded for that
rows = [
    {
        "data_source": "squish",
        "prompt": reward.messages(document.text, "10%"),
        "reward_model": {"style": "rule", "ground_truth": ""},
        "extra_info": {"document": document.text, "budget": "10%"},
    }
    for document in load_documents("samples")
]
Dataset.from_list(rows).to_parquet("verl.parquet")

function = {"path": "pkg://squish_pl.integrations.verl", "name": "compute_score"}
function["reward_kwargs"] = {"base": "smollm2", "device": "cpu"}
compute = get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": function}}))
for row in rows[:2]:
    answer = f"<summary>{row['extra_info']['document'][:120]}</summary>"
    print(compute(data_source="squish", solution_str=answer, ground_truth="", extra_info=row["extra_info"]))
