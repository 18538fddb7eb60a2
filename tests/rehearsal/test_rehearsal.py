"""What can be known of the way on a card without one, on a device that is not there (`card.py`).

A process of its own for each run: the device has to be there before torch is.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="the device that is not there is compiled with g++"),
]

LAYERS = 4
MOST_LAUNCHES = 25 * LAYERS + 30  #: of a decoding step
MOST_IN_A_DRAW = 40


def rehearse(*mistake):
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent, here.parents[1])))
    command = [sys.executable, str(here / "rehearse.py"), *mistake]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def problems(found):
    """What a card would refuse, wait for, be slow with, or have no room for."""
    if "refused" in found:
        return [found["refused"]]
    return [
        *(f"a step waits: {wait}" for wait in found["step waits"]),
        *(f"a draw waits: {wait}" for wait in found["draw waits"]),
        *(["too many launches in a step"] if found["step launches"] > MOST_LAUNCHES else []),
        *(["too many launches in a draw"] if found["draw launches"] > MOST_IN_A_DRAW else []),
        *(["more memory than foretold"] if found["peak"] > found["foretold"] else []),
    ]


def test_the_program_runs_within_its_bounds():
    found = rehearse()
    assert problems(found) == []
    assert found["step launches"] > 10 * LAYERS  # something was counted
    assert found["peak"] > found["foretold"] / 3


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("layout_on_the_cpu", "expected all tensors on one device"),
        ("queries_in_float32", "flash attention: takes one half-precision type"),
        ("log_sum_exp_in_half", "flash attention's backward: log-sum-exp in torch.bfloat16"),
        ("a_look_at_every_step", "a step waits: item"),
        ("a_mask_in_the_draw", "a draw waits: index_put_"),
        ("the_models_own_layers", "too many launches in a step"),
        ("all_rows_at_once", "more memory than foretold"),
    ],
)
def test_a_planted_mistake_is_found(mistake, words):
    found = problems(rehearse(mistake))
    assert any(words in problem for problem in found), found
