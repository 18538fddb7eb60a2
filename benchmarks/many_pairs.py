"""The `score` command on more and more short pairs: time should grow as their number does, and memory not at all.

python benchmarks/many_pairs.py --pairs 1250,2500,5000
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from common import make_byte_tokenizer
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from transformers import Qwen3Config, Qwen3ForCausalLM

_COMMAND = Path(__file__).parent.parent / "lightning_cli.py"
_WORDS = ("boat", "harbour", "storm", "council", "vote", "price", "train", "strike", "river", "school", "goat", "snow")


def main(pairs: str = "1250,2500,5000", words: int = 40, summary_words: int = 4) -> None:
    """Measures the whole command, in a process of its own, with a tiny random model that reads bytes.

    Args:
        pairs: Numbers of documents, each with a summary, separated by commas.
        words: Of a document.
        summary_words: Of a summary.
    """
    table = Table(title="score: documents with one summary each, and the copying baseline", title_justify="left")
    for heading in ("pairs", "seconds", "ms a pair", "resident MB, first scores", "resident MB, most"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_model(folder / "model")
        for number in map(int, pairs.split(",")):
            _make_pairs(folder, number, words, summary_words)
            seconds, sizes = _run(folder)
            # the model is loaded, the first pairs are being scored
            early, most = sizes[len(sizes) // 2] / 1e6, max(sizes) / 1e6
            table.add_row(
                f"{number:,}", f"{seconds:.1f}", f"{1000 * seconds / number:.2f}", f"{early:.0f}", f"{most:.0f}"
            )
    Console().print(table)


def _make_model(folder: Path) -> None:
    shape = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    Qwen3ForCausalLM(Qwen3Config(**shape, **heads)).save_pretrained(folder)
    make_byte_tokenizer().save_pretrained(folder)


def _make_pairs(folder: Path, number: int, words: int, summary_words: int) -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(_WORDS, k=words)) + f" {i}." for i in range(number)]
    lines = [json.dumps({"text": text}) for text in texts]
    summaries = [json.dumps({"summary": " ".join(draw.choices(_WORDS, k=summary_words))}) for _ in texts]
    (folder / "documents.jsonl").write_text("\n".join(lines))
    (folder / "summaries.jsonl").write_text("\n".join(summaries))


def _run(folder: Path) -> tuple[float, list[int]]:
    """Seconds, and the resident bytes as they were seen four times a second."""
    output = folder / "scores.jsonl"
    files = ["--documents", str(folder / "documents.jsonl"), "--summaries", str(folder / "summaries.jsonl")]
    command = [sys.executable, str(_COMMAND), "score", *files, "--output", str(output), "--budget", "20%"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--base", str(folder / "model"), "--device", "cpu"], stdout=subprocess.DEVNULL
    )
    watched, sizes = psutil.Process(process.pid), []
    while process.poll() is None:
        sizes.append(watched.memory_info().rss)
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start, sizes


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
