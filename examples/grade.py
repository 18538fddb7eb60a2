"""A plain grader, as OpenAI's Python graders and many evaluation harnesses call one; see smollm2.py for the model."""

from squish_pl.benchmark.documents import load_documents
from squish_pl.integrations.grader import SquishGrader

grade = SquishGrader(base="smollm2", device="cpu")
item = {"document": load_documents("samples", 1)[0].text, "budget": "20%"}
answers = {
    "its opening": f"<summary>{item['document'][:200]}</summary>",
    "never closed": "<summary>A short text",
    "too long": f"<summary>{item['document']}</summary>",
}
for name, text in answers.items():
    print(f"{name}: {grade({'output_text': text}, item):.4f}")
