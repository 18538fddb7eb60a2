"""Log-probs and entropies from hidden states, forward and backward, in four ways.

python benchmarks/log_probs.py --tokens 2000
python benchmarks/log_probs.py --hidden 2048 --vocabulary 151936 --tokens 8000 --device cuda --compiled true
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import alternate, report
from jsonargparse import auto_cli
from torch import Tensor

from squish_pl.lm.loading import pick_dtype
from squish_pl.lm.log_probs import SLICE_TOKENS, log_probs_of_logits, token_log_probs


def main(
    tokens: int = 2000,
    hidden: int = 576,
    vocabulary: int = 49_152,
    dtype: str = "auto",
    device: str = "cpu",
    compiled: bool = False,
    repeats: int = 5,
    json: bool = False,
) -> None:
    """Measures them under a frozen linear head.

    Args:
        tokens: N.
        hidden: H.
        vocabulary: V.
        dtype: Of hidden states and head.
        device: cpu or cuda.
        compiled: Whether to measure a compiled slice too.
        repeats: Counted runs of each way, after one to warm up.
        json: Print JSON.
    """
    settings = dict(locals())
    kind = pick_dtype(dtype, device)
    states = torch.randn(tokens, hidden, device=device, dtype=kind, requires_grad=True)
    weight = (torch.randn(vocabulary, hidden, device=device) / hidden**0.5).to(kind)
    targets = torch.randint(0, vocabulary, (tokens,), device=device)

    def head(x: Tensor) -> Tensor:
        return x @ weight.T

    def whole() -> tuple[Tensor, Tensor]:
        return log_probs_of_logits(head(states), targets)

    one_slice = torch.compile(lambda h, t: log_probs_of_logits(head(h), t), dynamic=True)

    def compiled_slices() -> tuple[Tensor, Tensor]:
        slices = zip(states.split(SLICE_TOKENS), targets.split(SLICE_TOKENS), strict=True)
        log_probs, entropies = zip(*(one_slice(h, t) for h, t in slices), strict=True)
        return torch.cat(log_probs), torch.cat(entropies)

    ways: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "whole logits": whole,
        "slices, computed again in backward": lambda: token_log_probs(states, head, targets),
        "slices, gradient made in forward (ours)": lambda: token_log_probs(states, head, targets, frozen_weight=weight),
    }
    if compiled:
        ways["compiled slices, logits kept"] = compiled_slices

    def both(way: Callable[[], tuple[Tensor, Tensor]]) -> None:
        states.grad = None
        way()[0].sum().backward()

    results = alternate({name: (lambda way=way: both(way)) for name, way in ways.items()}, repeats, device)
    report(f"log-probs, N={tokens} H={hidden} V={vocabulary}", results, settings, json)


if __name__ == "__main__":
    torch.manual_seed(0)
    auto_cli(main, as_positional=False)
