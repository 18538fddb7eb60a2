"""How much memory there is."""

import torch

from squish_pl.lm import device

CPU = torch.device("cpu")


def test_free_memory_of_this_machine():
    assert 1e6 < device.used_bytes(CPU) < device.total_bytes(CPU)
    assert 0 < device.free_bytes(CPU) < device.total_bytes(CPU)
    assert device.device_name(CPU) == "cpu"


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert device.total_bytes(CPU) == 3_000_000
    assert device.free_bytes(CPU) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert device.free_bytes(CPU) > 3_000_000
