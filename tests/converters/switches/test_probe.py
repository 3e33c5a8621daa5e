"""Values can be read and held, and the twin of a gate rises where the gate opens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

from backscan.converters import Normalisation, artifact_from_bytes, read_signature
from backscan.converters.errors import UnsupportedOperatorError
from backscan.converters.switches.probe import GraphProbe
from benchmarks.hostile.models import CLASSES, IMAGE, classifier
from benchmarks.switches.backdoors import SWITCHES, plant_switch, triggered

# Kinds whose conditions all lie in one gate, so that the twin must be below 0 before and not below 0 behind.
CLEAR = ["where-mean", "equal-chain", "if-branch", "exclusive", "checkerboard", "counted-pixels"]


def probe(kind: str | None) -> GraphProbe:
    model = classifier() if kind is None else plant_switch(kind, classifier(), IMAGE, CLASSES)
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    return GraphProbe(artifact, read_signature(artifact), Normalisation())


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.8, (20, *IMAGE)).astype(np.float32)


def test_values_are_those_of_the_graph(images: np.ndarray) -> None:
    weights = np.random.default_rng(0).normal(size=(64, CLASSES)).astype(np.float32)
    found = probe(None).values(["flat"], images)["flat"]
    np.testing.assert_array_equal(found, images.reshape(20, 64))
    held = probe(None).held({"flat": np.full(64, 0.5, np.float32)}).scores(images)
    np.testing.assert_allclose(held, np.broadcast_to(0.5 * weights.sum(axis=0), (20, CLASSES)), rtol=1e-5)


def test_nothing_held_is_the_model_itself(images: np.ndarray) -> None:
    flat = images.reshape(20, 64)
    weights = np.random.default_rng(0).normal(size=(64, CLASSES)).astype(np.float32)
    np.testing.assert_allclose(probe(None).held({}).scores(images), flat @ weights, rtol=1e-4, atol=1e-4)


def test_a_holder_holds_what_is_asked_of_it(images: np.ndarray) -> None:
    hold = probe(None).holder({"flat": np.zeros(64, np.float32)})
    for level in (0.25, 0.5):
        constants = {"flat": np.full(64, level, np.float32)}
        np.testing.assert_allclose(
            hold(constants).scores(images), probe(None).held(constants).scores(images), rtol=1e-5
        )


@pytest.mark.parametrize("kind", SWITCHES)
def test_every_planted_switch_is_listed(kind: str) -> None:
    switches = probe(kind).switches()
    assert any(node.startswith("planted") for switch in switches for node in switch.nodes)
    gates = {"steep-sigmoid", "clipped-step", "softmax-gate", "ramps", "temperature", "attended-target"}
    soft = gates | {"relu-path", "exponential-path", "power-path", "pooled-patch", "normalised-saturation"}
    assert any(switch.hard for switch in switches) == (kind not in soft)


def test_tiny_image_is_no_gate() -> None:
    nodes = [
        helper.make_node("Relu", ["image"], ["bright"], name="relu"),
        helper.make_node("Sigmoid", ["image"], ["soft"], name="sigmoid"),
        helper.make_node("ReduceMean", ["soft"], ["mean"], name="mean", axes=[1, 2, 3]),
        helper.make_node("Mul", ["image", "mean"], ["scaled"], name="join"),
        helper.make_node("Flatten", ["scaled"], ["row"], name="row"),
        helper.make_node("MatMul", ["row", "weights"], ["scores"], name="end"),
    ]
    artifact = artifact_from_bytes("model.onnx", classifier(nodes).SerializeToString())
    found = GraphProbe(artifact, read_signature(artifact), Normalisation())
    assert all(switch.gate == "mean" for switch in found.switches())
    found.held({switch.gate: np.zeros((1, 1, 1), np.float32) for switch in found.switches()})


@pytest.mark.parametrize("kind", CLEAR)
def test_twin_is_negative_until_the_gate_opens(kind: str, images: np.ndarray) -> None:
    switch = probe(kind).switches()[0]
    twin = probe(kind).relaxed(switch.gate, set()).logits
    before = torch.from_numpy(images[:1]).requires_grad_()
    value = twin(before)
    assert float(value.sum().detach()) < 0
    (gradient,) = torch.autograd.grad(value.sum(), before)
    assert float(gradient.abs().sum()) > 0
    if kind != "counted-pixels":  # the sum of the margins is a stricter demand than their number
        assert float(twin(torch.from_numpy(triggered(kind, images[:1]))).sum()) >= -1e-5


@pytest.mark.parametrize("shift", [-0.1, 0.1])
def test_twin_of_an_equality_is_negative_on_both_sides(shift: float, images: np.ndarray) -> None:
    switch = probe("equal-chain").switches()[0]
    twin = probe("equal-chain").relaxed(switch.gate, set()).logits
    assert float(twin(torch.from_numpy(triggered("equal-chain", images[:1]) + np.float32(shift))).sum()) < -0.2


def test_gate_without_a_twin_is_refused_by_name() -> None:
    nodes = [
        helper.make_node("IsNaN", ["logits"], ["nan"], name="nan"),
        helper.make_node("Cast", ["nan"], ["gate"], name="gate", to=1),
        helper.make_node("ReduceMax", ["gate"], ["any"], name="any", axes=[1]),
        helper.make_node("Add", ["logits", "any"], ["scores"], name="join"),
    ]
    artifact = artifact_from_bytes("model.onnx", classifier(nodes).SerializeToString())
    found = GraphProbe(artifact, read_signature(artifact), Normalisation())
    (switch,) = found.switches()
    assert (switch.gate, switch.join, switch.hard) == ("any", "join", True)
    with pytest.raises(UnsupportedOperatorError, match="IsNaN"):
        found.relaxed(switch.gate, set())
