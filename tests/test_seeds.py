import random

import numpy as np
import torch

from squish_pl.seeds import choose, derive_seed, random_state, restore_random_state


def test_seeds_depend_on_the_place_alone():
    assert derive_seed(0, "sample", 3, 0, 1) == derive_seed(0, "sample", 3, 0, 1)
    places = {derive_seed(0, kind, r, i) for kind in ("a", "b") for r in range(20) for i in range(20)}
    assert len(places) == 800
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert all(0 <= seed < 2**63 for seed in places)


def test_choices_are_even():
    counts = [0, 0, 0]
    for i in range(3000):
        counts[choose([0, 1, 2], 7, i)] += 1
    assert all(900 < count < 1100 for count in counts)


def test_the_random_state_survives_a_checkpoint(tmp_path):
    torch.save(random_state(), tmp_path / "state")
    expected = [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()]
    restore_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()] == expected
