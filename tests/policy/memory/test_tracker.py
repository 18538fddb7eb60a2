"""Counting bytes, against what can be counted by hand."""

import torch

from squish_pl.policy.memory.tracker import AllocationTracker, peak_bytes

KB = 1000 * 4


def test_the_peak_of_results_that_come_and_go():
    weight = torch.randn(10, 100)  # was there before: does not count

    def work():
        one = torch.zeros(10, 100)  # 1
        two = one + weight  # 2
        del one
        view = two.view(-1)  # a view takes nothing
        return view * 2  # 2 again

    assert peak_bytes(work) == 2 * KB
    assert peak_bytes(lambda: weight.add_(1)) == 0


def test_backward_is_seen_and_nothing_stays():
    weight = torch.randn(100, 100)

    def work():
        x = torch.randn(10, 100, requires_grad=True)  # 1
        y = torch.tanh(x @ weight)  # kept for backward: 2, the product gone again
        z = torch.tanh(y @ weight)  # 3
        z.sum().backward()  # gradients of the product and of y: 5

    with AllocationTracker() as tracker:
        work()
    assert tracker.live == 0
    # beside these, the sum and its gradient: two numbers
    assert 5 * KB <= tracker.peak <= 5 * KB + 8
    x = torch.randn(10, 100, requires_grad=True)
    with AllocationTracker() as tracker:
        (x @ weight).sum().backward()
    assert tracker.live == KB  # the gradient


def test_nothing_is_computed_on_meta():
    def work():
        x = torch.zeros(10_000, 100_000, device="meta")
        return x @ x.T

    assert peak_bytes(work) == 4 * (10**9 + 10**8)
