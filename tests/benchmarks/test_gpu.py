"""The parts of the measurement on a graphics card that need none."""

from __future__ import annotations

import argparse
import time

import pytest
import torch
from torch import nn

from benchmarks.gpu import ways
from benchmarks.gpu.__main__ import Found, report
from benchmarks.gpu.ceiling import Layer, convolutions, convolutions_seconds
from benchmarks.large.networks import resnet20


def test_the_convolutions_of_a_network_are_all_counted() -> None:
    network = resnet20(10).eval()
    found = convolutions(network, torch.rand(2, 3, 32, 32))
    assert sum(found.values()) == sum(isinstance(each, nn.Conv2d) for each in network.modules()) == 21
    first = Layer((2, 3, 32, 32), (16, 3, 3, 3), (1, 1), (1, 1), 1)
    assert first.flops == 2 * 2 * 32 * 32 * 16 * 27
    total = sum(count * layer.flops for layer, count in found.items()) / 2
    assert total == pytest.approx(2 * 40.8e6, rel=0.02), "ResNet-20 multiplies 40.8 million times an image"


def test_a_precision_ends_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    product = torch.ones(4, 4)
    with ways.precision("TF32", "cpu"):
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before
    with ways.precision("bfloat16", "cpu"):
        assert (product @ product).dtype == torch.bfloat16
    monkeypatch.setattr(ways.Measuring, "enough_seconds", 0.0)
    layers = convolutions(nn.Conv2d(1, 1, 3), torch.rand(1, 1, 5, 5))
    assert convolutions_seconds(layers, "float32", "cpu", gradient=True) > 0.0


def test_what_a_device_cannot_do_is_told_and_the_rest_stands() -> None:
    found = Found(argparse.Namespace(device="cpu", small=True, out=None), time.monotonic())
    row = {"network": "tiny", "precision": "float32", "gradient": True, "batch": 4}
    found.parts["passes"] = [
        row | {"launch": "eager", "images_a_second": 50.0, "convolutions_alone": 100.0},
        row | {"launch": "CUDA graph", "images_a_second": "RuntimeError: no card", "convolutions_alone": None},
    ]
    text = report(found)
    assert "| tiny | float32 | gradient | eager | 50.0 | 100.0 | 50% |" in text
    assert "| tiny | float32 | gradient | CUDA graph | RuntimeError: no card |  |  |" in text
