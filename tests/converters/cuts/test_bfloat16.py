"""Reduced precision: shares the weights, keeps the ends of the network in float32, and is refused where it errs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backscan.converters import import_model, read_signature
from backscan.converters.cuts.bfloat16 import has_bfloat16, reduce_part, reduce_precision
from backscan.converters.cuts.split import cut_candidates, split
from backscan.converters.intake.artifact import artifact_from_bytes
from benchmarks.victims.export import to_onnx
from benchmarks.victims.networks import digit_net, initialise
from tests.planted import linear_softmax


def classifier_of(data: bytes):
    artifact = artifact_from_bytes("model.onnx", data)
    return import_model(artifact, read_signature(artifact))


def images() -> torch.Tensor:
    return torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def deep(monkeypatch):
    """A network with something between its first and last layer, on a machine taken to have bfloat16."""
    monkeypatch.setattr("backscan.converters.cuts.bfloat16.has_bfloat16", lambda _: True)
    network = initialise(digit_net((3, 8, 8), 4), torch.Generator().manual_seed(0))
    return classifier_of(to_onnx(network, (3, 8, 8)))


def test_a_reduced_network_decides_alike_and_leaves_the_original_alone(deep):
    before = deep.logits(images())
    reduced = reduce_precision(deep, images())
    assert reduced is not None
    scores = reduced.logits(images())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, before, rtol=0.05, atol=0.05)
    assert not torch.equal(scores, before)
    assert torch.equal(deep.logits(images()), before)


def test_it_follows_the_normalisation(deep):
    reduced = reduce_precision(deep, images())
    assert reduced.normalisation == deep.normalisation


def test_the_first_layer_sees_patterns_below_the_resolution_of_bfloat16(deep):
    """1e-3 on pixels near 1 is lost in bfloat16, whose numbers near 1 lie 4e-3 apart or more."""
    bright = torch.full((1, 3, 8, 8), 0.898)
    pattern = torch.full((3, 8, 8), 1e-3)
    assert torch.equal(bright.bfloat16(), (bright + pattern).bfloat16())
    captured = []
    reduced = reduce_precision(deep, images())
    first = next(module for name, module in reduced.named_modules() if name.endswith("Conv_0"))
    handle = first.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
    reduced.logits(bright)
    reduced.logits(bright + pattern)
    handle.remove()
    assert captured[0].dtype == torch.float32
    assert not torch.equal(captured[0], captured[1])


def test_nothing_to_gain_gives_none(monkeypatch):
    monkeypatch.setattr("backscan.converters.cuts.bfloat16.has_bfloat16", lambda _: True)
    linear = classifier_of(linear_softmax(image_shape=(3, 8, 8)))
    assert reduce_precision(linear, images()) is None


def test_surrogate_gradients_are_not_reduced(deep):
    deep.has_surrogates = True
    assert reduce_precision(deep, images()) is None


def test_without_the_hardware_there_is_none(deep, monkeypatch):
    monkeypatch.setattr("backscan.converters.cuts.bfloat16.has_bfloat16", lambda _: False)
    assert reduce_precision(deep, images()) is None


def test_without_the_hardware_it_is_rounded_where_that_is_asked_for(deep, monkeypatch):
    """As near to what autocast computes as sums in another order leave it, and far nearer than float32 is."""
    in_hardware = reduce_precision(deep, images()).logits(images())
    monkeypatch.setattr("backscan.converters.cuts.bfloat16.has_bfloat16", lambda _: False)
    before = deep.logits(images())
    rounded = reduce_precision(deep, images(), rounded=True).logits(images())
    apart, from_exact = ((rounded - other).abs().mean() for other in (in_hardware, before))
    assert apart < 0.2 * from_exact
    assert torch.equal(deep.logits(images()), before)


class Cancelling(torch.nn.Module):
    """Adds a number between two layers and takes it away again: beside a large one, bfloat16 keeps little."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.network = initialise(digit_net((3, 8, 8), 4), torch.Generator().manual_seed(0))
        self.mixed = torch.nn.Conv2d(3, 3, 1)
        torch.nn.init.dirac_(self.mixed.weight)
        torch.nn.init.constant_(self.mixed.bias, 0)
        self.number = number

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the network, of which nothing changes but for rounding."""
        return self.network(self.mixed(self.mixed(self.mixed(images) + self.number)) - self.number)


@pytest.mark.parametrize(("number", "is_reduced"), [(0.1, True), (3000.0, False)])
def test_disagreement_on_the_probe_gives_none(deep, number, is_reduced):
    del deep  # has made the machine one with bfloat16
    classifier = classifier_of(to_onnx(Cancelling(number), (3, 8, 8)))
    assert (reduce_precision(classifier, images()) is not None) == is_reduced


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux tells what its processor can do")
def test_the_hardware_is_asked():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert has_bfloat16(torch.device("cpu")) == bool({"avx512_bf16", "amx_tile"} & flags)


def test_a_part_behind_a_cut_is_reduced_as_the_whole_is(deep, monkeypatch):
    del deep  # has made the machine one with bfloat16
    network = initialise(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), digit_net((3, 8, 8), 4)), torch.Generator())
    artifact = artifact_from_bytes("model.onnx", to_onnx(network, (3, 8, 8)))
    signature = read_signature(artifact)
    first = next(cut.name for cut in cut_candidates(artifact, signature) if cut.is_first_convolution)
    parts = split(artifact, signature, first)
    features = parts.front(images()).detach()
    before = parts.back.logits(features)
    reduced = reduce_part(parts.back, features)
    assert reduced is not None
    torch.testing.assert_close(reduced.logits(features), before, rtol=0.05, atol=0.05)
    assert not torch.equal(reduced.logits(features), before)
    assert torch.equal(parts.back.logits(features), before)
    monkeypatch.setattr("backscan.converters.cuts.bfloat16.has_bfloat16", lambda _: False)
    assert reduce_part(parts.back, features) is None
