"""Control tokens: which of a tokenizer's tokens they are, and how a text is encoded that spells them out.

A control token is an added token that is special, or that looks like markup: it begins and ends with signs and has a
letter or digit between them (`<think>`, `[INST]`, `◁think▷`, `|||EMAIL|||`). Many tokenizers also add runs of spaces,
newlines, words and single characters; these are text, and stay tokens. So does a special token that is a single
character or blank (a newline as end token): it has no other spelling.
"""

from __future__ import annotations

import json
import re
import secrets
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase


def control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of the control tokens."""
    return _control_ids(tokenizer, len(tokenizer))


def without_control_tokens(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The same tokenizer with the same ids, but no text becomes a control token; of a fast tokenizer alone.

    The token for unknown characters still stands for such characters, but not for its own name.
    """
    return _without_control_tokens(tokenizer, len(tokenizer))


def encode_in_parts(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text cut up inside the control tokens it spells; for slow tokenizers, which cannot be rebuilt.

    Some put a space in front of every part: then the spelled-out name has one more token.
    """
    control = control_ids(tokenizer)
    names = sorted((tokenizer.added_tokens_decoder[id].content for id in control), key=len, reverse=True)
    # a name may begin inside another one, hence the lookahead
    cuts = [match.start() + 1 for match in re.finditer(f"(?={'|'.join(map(re.escape, names))})", text)]
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    encoded = [
        tokenizer(p, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids for p in parts
    ]
    # what is left was made by the tokenizer's own tidying of the text
    return [id for ids in encoded for id in ids if id not in control or id == tokenizer.unk_token_id]


def looks_like_markup(content: str) -> bool:
    """Whether an added token begins and ends with signs and has a letter or digit between them."""
    core = content.strip().strip("▁")  # SentencePiece's space
    return bool(core) and not core[0].isalnum() and not core[-1].isalnum() and any(sign.isalnum() for sign in core)


@lru_cache(maxsize=8)
def _control_ids(tokenizer: PreTrainedTokenizerBase, size: int) -> frozenset[int]:
    special = set(tokenizer.all_special_ids)
    return frozenset(
        id
        for id, token in tokenizer.added_tokens_decoder.items()
        if len(token.content.strip()) > 1 and (token.special or id in special or looks_like_markup(token.content))
    )


@lru_cache(maxsize=8)
def _without_control_tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> Tokenizer:
    control = control_ids(tokenizer)
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    names = _rename(parts["model"], control)
    # An added token that the model's vocabulary lacks is given its id by the order of these, so it must stay. As a
    # special one it is not looked for; one that the vocabulary has can go.
    parts["added_tokens"] = [
        token | {"special": token["special"] or token["id"] in control}
        for token in parts["added_tokens"]
        if token["content"] not in names
    ]
    rebuilt = Tokenizer.from_str(json.dumps(parts))
    rebuilt.encode_special_tokens = True
    rebuilt.no_truncation()
    rebuilt.no_padding()
    return rebuilt


def _rename(model: dict[str, Any], control: frozenset[int]) -> dict[str, str]:
    """Gives control tokens in a model's own vocabulary names that no text holds, in place.

    Returns:
        The new names by the old ones.
    """
    listed = isinstance(model["vocab"], list)  # Unigram: [name, score], by id
    ids = {entry[0]: id for id, entry in enumerate(model["vocab"])} if listed else model["vocab"]
    nonce = secrets.token_hex(16)
    names = {name: f"\0{nonce} {id}" for name, id in ids.items() if id in control}
    if listed:
        model["vocab"] = [[names.get(name, name), score] for name, score in model["vocab"]]
    else:
        model["vocab"] = {names.get(name, name): id for name, id in ids.items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if names.keys().isdisjoint((left, right, left + right.removeprefix(prefix)))
        ]
    return names
