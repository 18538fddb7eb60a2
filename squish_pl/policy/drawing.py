"""Drawing tokens: plain temperature sampling by the inverse of the distribution function.

    number in [0, 1) -> the first token whose probabilities, added up to it, exceed number * their total

Numbers come from a generator of each group on the CPU, so they are the same on every device. Sums over a large
vocabulary need float64, which cards for desktops have little of: there float32 adds up blocks, and float64 their sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BLOCK = 512  #: tokens of the vocabulary
_AHEAD = 32  #: steps whose numbers go to the device together


class Numbers:
    """Numbers in [0, 1) for rows, a step at a time.

    Every row of every group takes a number from its group's generator whether it is left or not, so a row's draws do
    not depend on which others have ended.

    Args:
        seeds: One for each group.
        device: Where they are needed.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._device = device
        self._ahead: list[Tensor] = []
        self._left: tuple[Tensor, Tensor] | None = None  # the rows that are left, here and on the device

    def next(self, group_size: int, left: Tensor) -> Tensor:
        """[R] float64 of the next step, for the R rows that are left."""
        if not self._ahead:
            steps = [
                torch.cat([torch.rand(group_size, generator=g, dtype=torch.float64) for g in self._generators])
                for _ in range(_AHEAD)
            ]
            self._ahead = list(torch.stack(steps).to(self._device).flip(0))
        if self._left is None or self._left[0] is not left:
            self._left = left, left.to(self._device)
        return self._ahead.pop()[self._left[1]]


def draw(logits: Tensor, temperature: float, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """([R] tokens, [R] whether the logits were finite) drawn from [R, V] logits by [R] float64 numbers."""
    if logits.device.type == "cpu":
        sums = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
        target = numbers.unsqueeze(1) * sums[:, -1:]
        drawn = torch.searchsorted(sums, target, right=True).squeeze(1).clamp_max(logits.shape[1] - 1)
        return drawn, torch.isfinite(sums[:, -1])
    return draw_in_blocks(logits, temperature, numbers)


def draw_in_blocks(logits: Tensor, temperature: float, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The same with float64 for the sums of blocks, and for the tokens of one block a row."""
    rows, vocabulary = logits.shape
    p = torch.softmax(logits.float() / temperature, dim=-1)
    p = torch.nn.functional.pad(p, (0, -vocabulary % _BLOCK)).view(rows, -1, _BLOCK)
    sizes = p.sum(dim=-1).double()
    sums = sizes.cumsum(dim=-1)
    target = numbers.unsqueeze(1) * sums[:, -1:]
    block = torch.searchsorted(sums, target, right=True).clamp_max(p.shape[1] - 1)
    size = sizes.gather(1, block)
    share = ((target - sums.gather(1, block) + size) / size).clamp(0, 1 - 2**-53)
    inner = p.gather(1, block.unsqueeze(2).expand(-1, -1, _BLOCK)).squeeze(1).double().cumsum(dim=-1)
    place = torch.searchsorted(inner, share * inner[:, -1:], right=True)
    drawn = (block * _BLOCK + place).squeeze(1).clamp_max(vocabulary - 1)
    return drawn, torch.isfinite(sums[:, -1])
