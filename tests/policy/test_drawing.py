"""Drawing: the distribution function turned around, whole or in blocks, and numbers that keep to their rows."""

import torch

from squish_pl.policy.drawing import Numbers, draw, draw_in_blocks


def test_blocks_draw_what_whole_rows_draw():
    generator = torch.Generator().manual_seed(0)
    for vocabulary in (3, 512, 1300, 20_000):
        logits = torch.randn(400, vocabulary, generator=generator) * 6
        logits[:, vocabulary // 2] = -torch.inf
        numbers = torch.rand(400, generator=generator, dtype=torch.float64)
        drawn, finite = draw_in_blocks(logits, 0.8, numbers)
        assert finite.all()
        p = torch.softmax(logits.double() / 0.8, dim=-1)
        below = (p.cumsum(dim=-1) - p).gather(1, drawn.unsqueeze(1)).squeeze(1)
        chance = p.gather(1, drawn.unsqueeze(1)).squeeze(1)
        # the number lies in the token's own part, up to float32's rounding of the probabilities
        assert (below - numbers).max() < 1e-6
        assert (numbers - below - chance).max() < 1e-6
        assert chance.min() > 0
        whole, _ = draw(logits, 0.8, numbers)
        assert (whole == drawn).double().mean() > 0.99


def test_the_ends_of_a_row_can_be_drawn_and_what_is_not_finite_is_told():
    logits = torch.full((2, 700), -torch.inf)
    logits[0, 0] = logits[1, 699] = 3.0
    for numbers in (torch.zeros(2, dtype=torch.float64), torch.full((2,), 1 - 2**-53, dtype=torch.float64)):
        for way in (draw, draw_in_blocks):
            assert way(logits, 1.0, numbers)[0].tolist() == [0, 699]
    logits[1, 5] = torch.nan
    for way in (draw, draw_in_blocks):
        assert way(logits, 1.0, numbers)[1].tolist() == [True, False]


def test_numbers_keep_to_their_rows_and_are_each_groups_own():
    together = Numbers([7, 8], torch.device("cpu"))
    alone = Numbers([8], torch.device("cpu"))
    generator = torch.Generator().manual_seed(8)
    every, left = torch.arange(6), torch.tensor([0, 4])
    for step in range(70):
        mine = together.next(3, every if step < 40 else left)
        expected = torch.rand(3, generator=generator, dtype=torch.float64)
        assert torch.equal(alone.next(3, torch.arange(3)), expected)
        assert torch.equal(mine[3:] if step < 40 else mine[1:], expected if step < 40 else expected[1:2])
