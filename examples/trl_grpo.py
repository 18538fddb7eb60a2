"""TRL trains SmolLM2 (see smollm2.py) for two steps on the sample articles; SmolLM2 itself, frozen, is the judge."""

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from squish_pl.benchmark.documents import load_documents
from squish_pl.budget import Budget
from squish_pl.integrations.trl import SquishReward
from squish_pl.policy.prompts import PromptTemplate

tokenizer = AutoTokenizer.from_pretrained("smollm2")
rows = [
    {"prompt": PromptTemplate().build(document, Budget.parse(budget), tokenizer).text, "document": document.text}
    | {"budget": budget}
    for document in load_documents("samples", 4)
    for budget in ("10%", "20%")
]
config = GRPOConfig(
    output_dir="trl-run",
    max_steps=2,
    num_generations=4,
    per_device_train_batch_size=4,
    max_completion_length=80,
    use_cpu=True,
    bf16=False,
    logging_steps=1,
    report_to="none",
    save_strategy="no",
)
rewards = [SquishReward(base="smollm2", device="cpu"), SquishReward("fair", base="smollm2", device="cpu")]
trainer = GRPOTrainer(
    "smollm2", rewards, config, Dataset.from_list(rows), processing_class=tokenizer, peft_config=LoraConfig(r=8)
)
trainer.train()
