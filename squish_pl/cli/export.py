"""`export`: a trained policy as a plain model, for whatever reads models."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import HFValidationError, validate_repo_id
from jsonargparse import auto_cli
from rich.console import Console
from rich.text import Text
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from squish_pl.cli.compare import null_problems
from squish_pl.cli.export_card import export_card
from squish_pl.errors import ConfigError, SquishError, first_line
from squish_pl.files import replace_folder
from squish_pl.lm.fingerprint import fingerprint
from squish_pl.lm.loading import BaseModel, DType, pick_dtype, quiet_transformers
from squish_pl.policy.adapter import adapter_problems, read_training_file
from squish_pl.policy.adapter_loading import load_adapter
from squish_pl.policy.chat_template import policy_chat_template
from squish_pl.policy.merging import merge
from squish_pl.policy.origin import trained_base, trained_prompt
from squish_pl.policy.prompts import PromptTemplate

TOKEN = "HF_TOKEN"  #: the environment variable that `--push` takes the Hub's token from, and from nowhere else
CONVERTER = "convert_hf_to_gguf.py"  #: of llama.cpp
_MOST_TOKENS = 512  # of a summary, where the request does not say; transformers' own default is 20 in all


def run(arguments: list[str]) -> None:
    """Runs the command with its arguments."""
    auto_cli(export, args=arguments, as_positional=False, exit_on_error=False)


def export(
    adapter: str,
    to: str,
    base: Optional[str] = None,
    gguf_file: Optional[str] = None,
    revision: Optional[str] = None,
    dtype: DType = "auto",
    prompt: Optional[PromptTemplate] = None,
    overwrite: bool = False,
    gguf: bool = False,
    push: Optional[str] = None,
    private: bool = True,
) -> None:
    """Merges an adapter into its base model and writes a folder that transformers, vLLM and llama.cpp read.

    It holds the weights (safetensors), the tokenizer with a chat template that asks as the policy was asked, a
    generation config that stops at the summary's closing tag, and a model card.

    Args:
        adapter: The adapter's folder, such as checkpoints/smollm2/best.
        to: The folder to write; a new or empty one.
        base: The base model, where the adapter's folder does not say it: hub id, folder, or "package:NAME".
        gguf_file: Name of a GGUF file in that folder or package; its weights are dequantised.
        revision: Revision of a hub model.
        dtype: Of the weights that are written; "auto" is the base's own. They are merged in float32.
        prompt: How the policy was asked, where the adapter's folder does not say it.
        overwrite: Write over an earlier export in the folder.
        gguf: Also write a GGUF file, by llama.cpp's own converter.
        push: Upload the folder to the Hub as owner/name, with the token in the environment variable HF_TOKEN.
        private: Whether a repository that `push` makes is private.

    Raises:
        ConfigError: Settings that make no sense; all problems are named together.
        ModelError: Base or adapter cannot be loaded, or merged.
        CheckpointError: The folder cannot be written.
        SquishError: The upload or the conversion failed; the folder is there.
    """
    folder, target = Path(adapter).expanduser(), Path(to).expanduser()
    problems = null_problems(locals(), export) + adapter_problems(adapter) + _folder_problems(target, overwrite)
    problems += _push_problems(push, os.environ) + ([] if prompt is None else prompt.problems())
    if problems:
        raise ConfigError(problems)
    training = read_training_file(folder)
    wanted = trained_base(training, base, gguf_file, revision, "float32")
    asked = prompt or trained_prompt(training)
    console = Console(highlight=False)
    console.print(Text(f"merging {adapter} into {wanted.base}"), soft_wrap=True)
    tokenizer = wanted.load_tokenizer()
    template = policy_chat_template(asked, tokenizer)
    model = wanted.load("cpu", tokenizer).requires_grad_(False)
    merged = merge(load_adapter(model, adapter, fingerprint(model), wanted.base))
    merged.to(_dtype(dtype, wanted))  # type: ignore[arg-type]
    card = export_card(wanted, asked, training, str(merged.dtype).removeprefix("torch."), target.name)
    _write(target, merged, tokenizer, template, asked, card)
    console.print(Text(f"model: {target}"), soft_wrap=True)
    if gguf:
        console.print(Text(convert(target)), soft_wrap=True)
    if push is not None:
        console.print(Text(upload(target, push, private, HfApi(token=os.environ[TOKEN]))), soft_wrap=True)


def convert(folder: Path) -> str:
    """Writes a GGUF file into a model's folder where llama.cpp is installed.

    Returns:
        Where the file is, or how to get it.

    Raises:
        SquishError: llama.cpp's converter failed.
    """
    file = folder / f"{folder.resolve().name}.gguf"
    converter = shutil.which(CONVERTER)
    if converter is None:
        return (
            f"no GGUF file: {CONVERTER} of llama.cpp is not on the path; with it: {CONVERTER} {folder} --outfile {file}"
        )
    done = subprocess.run([converter, str(folder), "--outfile", str(file)], capture_output=True, text=True)
    if done.returncode != 0 or not file.is_file():
        raise SquishError(
            f"{converter} failed, the model is in {folder}: {(done.stderr or done.stdout).strip()[-500:]}"
        )
    return f"GGUF: {file}"


def upload(folder: Path, repository: str, private: bool, api: HfApi) -> str:
    """Uploads a model's folder to the Hub.

    Returns:
        Where it is.

    Raises:
        SquishError: It could not be uploaded.
    """
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload the merged model")
    except Exception as error:  # the network, the token, the name: each fails in its own way
        raise SquishError(f"cannot upload to {repository}: {first_line(error)}; the model is in {folder}") from None
    return f"on the Hub: {address}"


def _folder_problems(folder: Path, overwrite: bool) -> list[str]:
    if folder.exists() and not folder.is_dir():
        return [f"to: expected a folder, but {str(folder)!r} is a file"]
    if folder.resolve().name == "" or not folder.is_dir() or not any(folder.iterdir()):
        return [] if folder.resolve().name else ["to: expected a folder of its own, but got '/'"]
    if not overwrite:
        return [f"to: {str(folder)!r} is not empty: name another folder, or say --overwrite true"]
    if not (folder / "config.json").is_file():
        return [f"to: {str(folder)!r} holds no earlier export to write over, but something else: name another folder"]
    return []


def _push_problems(push: str | None, environment: Mapping[str, str]) -> list[str]:
    if push is None:
        return []
    found = [] if environment.get(TOKEN) else [f"push: expected a token in the environment variable {TOKEN}"]
    try:
        validate_repo_id(push)
        named = push.count("/") == 1
    except HFValidationError:
        named = False
    return found + ([] if named else [f"push: expected owner/name, but got {push!r}"])


def _dtype(dtype: str, base: BaseModel) -> torch.dtype:
    if dtype != "auto":
        return pick_dtype(dtype, "cpu")
    own = getattr(base.load_config(), "dtype", None)
    return own if isinstance(own, torch.dtype) else torch.float32


def _write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    prompt: PromptTemplate,
    card: str,
) -> None:
    """Writes the folder whole or not at all.

    Raises:
        CheckpointError: It cannot be written.
    """
    generation = GenerationConfig(
        do_sample=False,  # as validation writes
        max_new_tokens=_MOST_TOKENS,
        stop_strings=[prompt.close_tag],
        **{
            name: getattr(model.generation_config, name, None)
            for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        },
    )
    model.generation_config = generation
    tokenizer.chat_template = template

    def write(target: Path) -> None:
        with quiet_transformers():
            model.save_pretrained(str(target))
            tokenizer.save_pretrained(str(target))
        (target / "README.md").write_text(card, encoding="utf-8")

    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    replace_folder(folder, write)
