"""inspect_ai asks SmolLM2 (see smollm2.py) for summaries of two sample articles and scores them.

inspect view --log-dir logs    # shows each answer with its score
"""

from inspect_ai import Task, eval
from inspect_ai.model import get_model

from squish_pl.benchmark.documents import load_documents
from squish_pl.integrations.inspect import squish, summary_dataset

settings = {"base": "smollm2", "device": "cpu"}
documents = [document.text for document in load_documents("samples", 2)]
task = Task(
    dataset=summary_dataset(documents, ["10%", "20%"], **settings),
    scorer=[squish(**settings), squish(measure="fair", **settings)],
)
model = get_model("hf/smollm2", model_path="smollm2", device="cpu")
(log,) = eval(task, model=model, max_tokens=120, display="none")
for sample in log.samples:
    score = sample.scores["squish"]
    print(sample.metadata["budget"], score.value, repr(score.answer)[:80])
for result in log.results.scores:
    print(result.name, {name: round(metric.value, 4) for name, metric in result.metrics.items()})
