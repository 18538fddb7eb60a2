"""Running out of memory: half as much at a time, from the start, until it fits or cannot."""

import logging

import pytest
import torch

from squish_pl.errors import SquishError
from squish_pl.lm.halving import Limit, out_of_memory, within

CPU = torch.device("cpu")


def make_work(limit, sizes, fits, error=torch.OutOfMemoryError):
    """Work in pieces of the limit's size; notes them all."""

    def work():
        size = min(limit.value, 100)
        limit.take(size)
        sizes.append(size)
        if size > fits:
            raise error("CUDA out of memory. Tried to allocate 2 GiB")
        return size

    return work


def test_the_piece_in_hand_is_halved_until_it_fits(caplog):
    limit, sizes = Limit("policy pass", "tokens", 16_384), []
    with caplog.at_level(logging.WARNING):
        assert within(limit, CPU, make_work(limit, sizes, fits=30), 5, "buy a card") == 25
    assert sizes == [100, 50, 25]  # not 16,384, 8,192, ...: that would change nothing
    assert limit.value == 25
    assert "out of memory in a policy pass of 100 tokens: going on with at most 50" in caplog.text
    assert within(limit, CPU, make_work(limit, sizes, fits=30), 5, "") == 25  # and stays


def test_the_smallest_piece_that_does_not_fit_is_an_error():
    limit, sizes = Limit("policy pass", "tokens", 100), []
    with pytest.raises(SquishError, match=r"policy pass of 40 tokens, the smallest there is: buy a card"):
        within(limit, CPU, make_work(limit, sizes, fits=1), 40, "buy a card")
    assert sizes == [100, 50, 40]


def test_memory_saved_in_another_way_gets_another_try():
    saved = iter([True, True, False])
    limit, sizes = Limit("policy pass", "tokens", 40, lambda size: next(saved)), []
    with pytest.raises(SquishError):
        within(limit, CPU, make_work(limit, sizes, fits=1), 40, "")
    assert sizes == [40, 40, 40]


def test_other_errors_are_none_of_its_business():
    limit, sizes = Limit("policy pass", "tokens", 100), []
    with pytest.raises(RuntimeError, match="Tried"):
        within(limit, CPU, make_work(limit, sizes, 1, RuntimeError), 1, "")
    assert sizes == [100]


def test_what_counts_as_running_out():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)  # the CPU's own words
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    for words in (
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA driver error: out of memory",
        "Triton Error [CUDA]: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ):
        assert out_of_memory(RuntimeError(words))
    assert not out_of_memory(RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376"))
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("not enough memory"))


def test_what_the_failed_try_held_is_gone_before_the_next():
    limit, alive = Limit("policy pass", "tokens", 100), []

    class Held:
        count = 0

        def __init__(self):
            Held.count += 1

        def __del__(self):
            Held.count -= 1

    def work():
        alive.append(Held.count)
        held = Held()
        if limit.value > 50:
            raise torch.OutOfMemoryError(f"while holding {held}")

    within(limit, CPU, work, 1, "")
    assert alive == [0, 0]
