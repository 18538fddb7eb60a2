"""A tiny random model of each architecture and a byte tokenizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

ARCHITECTURES = ("llama", "qwen3")


def make_byte_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """256 bytes, then <s>, </s>; one token a byte, no merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {sign: i for i, sign in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    if chat:
        fast.chat_template = (
            "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
            "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
        )
    return fast


def make_tiny_model(
    architecture: str = "qwen3",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    context: int = 4096,
    window: int | None = None,
) -> PreTrainedModel:
    """Two layers, hidden size 32, grouped-query attention; weights wide enough that predictions differ."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    if architecture == "llama":
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**shape))
    elif architecture == "mistral":
        model = MistralForCausalLM(MistralConfig(**shape, sliding_window=window))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=8))
    if dtype == torch.float64:
        _norm_in_double(model)
    return model.to(dtype).eval()


def save_tiny_model(architecture: str, folder: Path) -> Path:
    """A tiny model with the byte tokenizer, as a Hugging Face folder."""
    make_tiny_model(architecture).save_pretrained(folder)
    make_byte_tokenizer().save_pretrained(folder)
    return folder


def _norm_in_double(model: PreTrainedModel) -> None:
    """transformers' RMSNorm rounds to float32 on the way, which would hide errors of a float64 comparison."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(_rms_norm, module)


def _rms_norm(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return module.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
