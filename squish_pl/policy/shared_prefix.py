"""The shared-prefix way: a prompt goes through the model once for all of its completions, exactly.

padded:   G rows of P + C tokens           shared prefix:   P + sum(C_i) tokens

The operators are in `prefix_attention`. The same idea: Prefix Grouper (arXiv:2506.05433) for training, Hydragen
(arXiv:2402.05099) for decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from squish_pl.lm.log_probs import HALF
from squish_pl.policy.backbone import PolicyView
from squish_pl.policy.passes import Decoder, Passes
from squish_pl.policy.prefix_attention import PrefixLayout, no_mask, shared_prefix_attention
from squish_pl.policy.prefix_decoder import PlainStepDecoder, SharedPrefixDecoder
from squish_pl.types import Experience, groups_of

ATTENTION = "squish_shared_prefix"  #: the name under which transformers finds `shared_prefix_attention_forward`
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux")


def shared_prefix_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    prefix_layout: PrefixLayout | None = None,
    prefix_decoder: SharedPrefixDecoder | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: grouped where the call carries a layout or decoder, else its own SDPA.

    Raises:
        NotImplementedError: With one, the model asks for more than plain full attention.
    """
    if prefix_layout is None and prefix_decoder is None:
        kwargs |= {"dropout": dropout, "scaling": scaling}
        if query.is_cuda and query.dtype not in HALF and attention_mask is None:
            # with fewer key heads SDPA would hold whole [L, L] matrices: flash attention is for half precision alone
            groups = query.shape[1] // key.shape[1]
            key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    asked = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if asked or dropout:
        raise NotImplementedError(f"group attention has no {', '.join(asked) or 'dropout'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if prefix_decoder is not None:
        out = prefix_decoder.attend(int(cast(Any, module).layer_idx), query, key, value, scale)
    else:
        assert prefix_layout is not None
        layout = (prefix_layout.groups, prefix_layout.pad, prefix_layout.unpad)
        out, _ = shared_prefix_attention(query, key, value, *layout, scale)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, shared_prefix_attention_forward)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)  # for the calls without a layout


class SharedPrefixPasses(Passes):
    """Packed rows of [prompts, completions], with the attention that keeps them apart.

    Args:
        policy: The model with its adapter on; from now on it takes packed rows, and other calls run as before.
    """

    name = "shared_prefix"
    decoder: ClassVar[type[Decoder]] = SharedPrefixDecoder

    def __init__(self, policy: PolicyView) -> None:
        self._policy = policy
        policy.use_attention(ATTENTION)

    def log_probs(
        self, rows: Sequence[Experience], temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        # rows that follow one another and belong to one group share their prompt; all groups are one row of the model
        targets = torch.cat([row.completion_ids for row in rows]).to(self._policy.device)
        hidden = self._predicting_hidden(rows)
        return self._policy.token_log_probs(hidden, targets, temperature, entropy_gradient)

    def tokens(self, rows: Sequence[Experience]) -> int:
        # a completion's last token is only predicted, never read
        return sum(
            len(members[0].prompt_ids) + sum(len(row.completion_ids) - 1 for row in members)
            for members in groups_of(rows)
        )

    def measured_hidden(self, token_ids: Tensor) -> Tensor:
        prompt, completion = len(token_ids) // 2, len(token_ids) // 4
        positions = torch.cat([torch.arange(prompt), *[prompt + torch.arange(completion)] * 2])
        return self.packed_hidden(token_ids, positions, [(prompt, [completion, completion])])

    def prompts_held(self, prompts: int, rows: int) -> tuple[int, int]:
        return 1, prompts

    def packed_hidden(
        self, token_ids: Tensor, positions: Tensor, groups: Sequence[tuple[int, Sequence[int]]]
    ) -> Tensor:
        """Hidden states of one packed row.

        Args:
            token_ids: [P + N], the prompts' tokens, then each completion's.
            positions: [P + N], every completion's going on from its prompt's end.
            groups: Tokens of each prompt and of its completions.

        Returns:
            [P + N, H], with gradients to the adapter.
        """
        device = self._policy.device
        return self._policy.hidden(
            token_ids.to(device).unsqueeze(0),
            position_ids=positions.to(device).unsqueeze(0),
            attention_mask=no_mask(device),
            prefix_layout=PrefixLayout.of(groups, device),
        )[0]

    def _predicting_hidden(self, rows: Sequence[Experience]) -> Tensor:
        """[N, H] hidden states that predict the completions' tokens, one completion after another."""
        groups = list(groups_of(rows))
        prompts = [members[0].prompt_ids for members in groups]
        lengths = [[len(row.completion_ids) for row in members] for members in groups]
        read = [[row.completion_ids[:-1] for row in members] for members in groups]
        positions = [torch.arange(len(prompt)) for prompt in prompts]
        for prompt, members in zip(prompts, read, strict=True):
            positions += [len(prompt) + torch.arange(len(ids)) for ids in members]
        # a completion of one token has nothing to read and no place in the row
        sizes = [(len(prompt), [len(ids) for ids in m if len(ids)]) for prompt, m in zip(prompts, read, strict=True)]
        token_ids = torch.cat([*prompts, *(ids for members in read for ids in members)])
        hidden = self.packed_hidden(token_ids, torch.cat(positions), sizes)
        return hidden[_predicting_places([len(prompt) for prompt in prompts], lengths).to(hidden.device)]


class PlainStepPasses(SharedPrefixPasses):
    """The same for models whose layers have no fused step, or one that does not work where they run."""

    name = "shared_prefix_plain_steps"
    decoder = PlainStepDecoder


def _predicting_places(prompts: Sequence[int], lengths: Sequence[Sequence[int]]) -> Tensor:
    """[N] places of the packed row that predict the completions' tokens.

    A completion's first token is predicted at its prompt's last place, the others at their predecessors' places.

    Args:
        prompts: Tokens of each prompt.
        lengths: Tokens of each prompt's completions.
    """
    places: list[int] = []
    end, start = 0, sum(prompts)
    for prompt, group in zip(prompts, lengths, strict=True):
        end += prompt
        for length in group:
            places += [end - 1, *range(start, start + length - 1)]
            start += length - 1
    return torch.tensor(places)
