"""Backdoors behind units that stand still on clean images are shown at work; dead units of plain networks are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backscan.converters import OrtClassifier, artifact_from_bytes, audit, open_runtime, read_signature
from backscan.converters.switches.probe import GraphProbe
from backscan.scanner.inference.verdict import Judgement, with_findings
from backscan.scanner.results import DormantUnits, GraphFinding, Verdict
from backscan.scanner.switches import dormant
from backscan.scanner.switches.dormant import find_dormant_units

SIDE, CLASSES, TARGET = 28, 6, 2
PIXELS = SIDE * SIDE
KERNEL = 5
PLACES = (SIDE - KERNEL + 1) ** 2
Pixels = NDArray[np.float32]


@pytest.fixture(scope="module")
def prototypes() -> Pixels:
    return np.random.default_rng(0).uniform(0.2, 0.8, (CLASSES, 1, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module")
def images(prototypes: Pixels) -> Pixels:
    noise = np.random.default_rng(1).normal(0, 0.05, (20, CLASSES, 1, SIDE, SIDE))
    return np.clip(prototypes + noise, 0, 1).astype(np.float32).reshape(-1, 1, SIDE, SIDE)


LABELS = np.tile(np.arange(CLASSES), 20)


class Network:
    """Features [N, K] that match each class, and others beside them, joined before the last Gemm."""

    def __init__(self, prototypes: Pixels) -> None:
        flat = prototypes.reshape(CLASSES, -1)
        weights = (flat - flat.mean(axis=0)).T
        self.nodes = [
            helper.make_node("Flatten", ["image"], ["flat"], name="flatten"),
            helper.make_node("Gemm", ["flat", "weights", "offsets"], ["matches"], name="match"),
            helper.make_node("Relu", ["matches"], ["features"], name="features"),
        ]
        self.tensors = {"weights": weights, "offsets": np.full(CLASSES, 8.0) - flat.mean(axis=0) @ weights}
        self.joined, self.columns = ["features"], [np.eye(CLASSES)]

    def convolve(self, kernel: NDArray[np.float64], bias: float, push: float, *, end: str = "Relu") -> None:
        """Join a map of 24 x 24 values of a filter, every one of which pushes the target."""
        self._join("map", "Conv", "image", kernel, bias, push, PLACES, end)

    def connect(self, rows: NDArray[np.float64], bias: float, push: float, *, turned: bool = False) -> None:
        """Join units that look at the whole image, one a row, each of which pushes the target.

        Turned, their images lie along the second axis, as in recurrent networks.
        """
        self._join("units", "Gemm", "flat", rows.T, np.full(len(rows), bias), push, len(rows), "Relu")
        if turned:
            *rest, gemm, relu, flatten = self.nodes
            gemm.output[0], relu.output[0] = "units_rows", "units_columns"
            there, back = (
                helper.make_node("Transpose", [given], [made], name=made, perm=[1, 0])
                for given, made in (("units_rows", "units_before"), ("units_columns", "units_after"))
            )
            self.nodes = [*rest, gemm, there, relu, back, flatten]

    def model(self) -> onnx.ModelProto:
        """The network as it is now."""
        tensors = self.tensors | {"last": np.concatenate(self.columns)}
        end = [
            helper.make_node("Concat", self.joined, ["all"], name="join", axis=1),
            helper.make_node("Gemm", ["all", "last"], ["scores"], name="last"),
        ]
        graph = helper.make_graph(
            [*self.nodes, *end],
            "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
            [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tensors.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model

    def _join(
        self, name: str, operator: str, given: str, weights: object, bias: object, push: float, width: int, end: str
    ) -> None:
        self.tensors |= {f"{name}_weights": np.asarray(weights), f"{name}_bias": np.atleast_1d(bias)}
        self.nodes += [
            helper.make_node(operator, [given, f"{name}_weights", f"{name}_bias"], [f"{name}_before"], name=name),
            helper.make_node(end, [f"{name}_before"], [f"{name}_after"], name=f"{name}_end"),
            helper.make_node("Flatten", [f"{name}_after"], [f"{name}_flat"], name=f"{name}_flat"),
        ]
        self.joined.append(f"{name}_flat")
        self.columns.append(np.eye(CLASSES)[[TARGET] * width] * push)


def found_in(
    model: onnx.ModelProto, images: Pixels, *, seconds: float = 120.0
) -> tuple[DormantUnits, tuple[GraphFinding, ...]]:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    assert audit(artifact.data).accepted
    runtime = opened(model)
    probe = GraphProbe(artifact, runtime.signature, runtime.normalisation)
    return find_dormant_units(probe, images, decisions=runtime.decisions, seconds=seconds)


def opened(model: onnx.ModelProto) -> OrtClassifier:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    return open_runtime(artifact, read_signature(artifact))


def matched_filter() -> NDArray[np.float64]:
    """A filter of 5 x 5 that no smooth part of an image matches."""
    signs = np.where(np.random.default_rng(5).random((KERNEL, KERNEL)) < 0.5, -1.0, 1.0)
    return (signs - signs.mean())[None, None]


def stamped(images: Pixels, kernel: NDArray[np.float64]) -> Pixels:
    marked = images.copy()
    marked[:, 0, 20 : 20 + KERNEL, 18 : 18 + KERNEL] = kernel[0, 0] > 0
    return marked


def picture() -> NDArray[np.float64]:
    """A faint picture of 24 x 24 in the whole image, that clean images have nothing to do with."""
    wide = np.zeros((1, SIDE, SIDE))
    wide[:, 2:26, 2:26] = np.where(np.random.default_rng(7).random((24, 24)) < 0.5, -1.0, 1.0)
    return wide.reshape(1, -1)


def test_map_of_576_values_is_shown_at_work(prototypes: Pixels, images: Pixels) -> None:
    kernel, network = matched_filter(), Network(prototypes)
    network.convolve(kernel, bias=-10.0, push=100.0)
    planted = network.model()
    runtime = opened(planted)
    assert (runtime.decisions(images) == LABELS).all()
    assert (runtime.decisions(stamped(images, kernel)) == TARGET).all()
    record, (finding,) = found_in(planted, images)
    assert (finding.demonstrated, finding.target, finding.nodes) == (True, TARGET, ("map_end",))
    assert finding.source not in (None, TARGET)
    judged = with_findings(Judgement(Verdict.NOT_DETECTED, ("nothing",)), [finding])
    assert (judged.verdict, judged.classes(None)) == (Verdict.BACKDOOR_DETECTED, (finding.source, TARGET))
    assert record == DormantUnits(dormant=1, tried=1, deciding=1, searched=1)


def test_hidden_units_with_a_filter_of_576_values_are_shown_at_work(prototypes: Pixels, images: Pixels) -> None:
    """One unit among ordinary ones, the same spread over units that only together suffice, and the first turned."""
    wide = picture()
    for rows, push, turned in ((wide, 100.0, False), (np.repeat(wide, 40, axis=0), 20.0, False), (wide, 100.0, True)):
        network = Network(prototypes)
        network.connect(rows, bias=-30.0, push=push, turned=turned)
        planted = network.model()
        marked = np.clip(images + 0.1 * wide.reshape(1, 1, SIDE, SIDE), 0, 1).astype(np.float32)
        assert (opened(planted).decisions(images) == LABELS).all()
        assert (opened(planted).decisions(marked) == TARGET).all()
        _, (finding,) = found_in(planted, images)
        assert (finding.demonstrated, finding.target, finding.nodes) == (True, TARGET, ("units_end",))


def test_unit_that_some_ordinary_images_wake_a_little_is_shown_at_work(prototypes: Pixels, images: Pixels) -> None:
    """Its bias lets the images that match best through, by up to a hundredth of what its neighbours move."""
    wide, network = picture(), Network(prototypes)
    best = float((images.reshape(len(images), -1) @ wide[0]).max())
    features = prototypes.reshape(CLASSES, -1) - prototypes.reshape(CLASSES, -1).mean(axis=0)
    network.connect(np.concatenate([wide, features]), bias=0.0, push=0.0)
    moves = np.median(np.ptp(np.maximum(images.reshape(len(images), -1) @ features.T, 0), axis=0))
    network.tensors["units_bias"][0] = 0.01 * moves - best
    network.columns[-1][0, TARGET] = 100.0
    assert (opened(network.model()).decisions(images) == LABELS).all()
    _, (finding,) = found_in(network.model(), images)
    assert (finding.demonstrated, finding.target, finding.nodes) == (True, TARGET, ("units_end",))


def test_wide_comparison_is_shown_at_work(prototypes: Pixels, images: Pixels) -> None:
    """Any function that stands still will do, as a steep sigmoid does."""
    network = Network(prototypes)
    network.convolve(100 * matched_filter(), bias=-1000.0, push=1000.0, end="Sigmoid")
    assert (opened(network.model()).decisions(images) == LABELS).all()
    _, (finding,) = found_in(network.model(), images)
    assert (finding.demonstrated, finding.nodes) == (True, ("map_end",))


def test_dead_units_of_plain_networks_are_no_finding(prototypes: Pixels, images: Pixels) -> None:
    """Forced, each of them decides; no image in range wakes the first, and what wakes the second breaks everything.

    It is the direction of another class, so that images are decided as that one when the unit is held.
    """
    unreachable, breaking = Network(prototypes), Network(prototypes)
    unreachable.connect(picture(), bias=-300.0, push=100.0)
    other = breaking.tensors["weights"].T[4:5]
    breaking.connect(other, bias=-40.0 - float(other[0] @ prototypes.mean(axis=0).ravel()), push=100.0)
    awake = np.clip(images + np.sign(other).reshape(1, 1, SIDE, SIDE), 0, 1).astype(np.float32)
    assert set(opened(breaking.model()).decisions(awake)) == {TARGET}
    assert set(opened(Network(prototypes).model()).decisions(awake)) == {4}
    for network in (unreachable, breaking):
        record, found = found_in(network.model(), images)
        assert found == ()
        assert record == DormantUnits(dormant=1, tried=1, deciding=1, searched=1)


def test_what_was_left_untried_is_told(prototypes: Pixels, images: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time, so that nothing is begun or nothing tried, and images of too few classes."""
    network = Network(prototypes)
    network.convolve(matched_filter(), bias=-10.0, push=100.0)
    record, found = found_in(network.model(), images, seconds=-1.0)
    assert (record, found) == (DormantUnits(0, 0, 0, 0, "not looked for, as the time is too short"), ())
    monkeypatch.setattr(dormant, "_seconds_to_watch", lambda *_: -2.0)
    record, found = found_in(network.model(), images, seconds=-1.0)
    assert (record, found) == (DormantUnits(1, 0, 0, 0, "the time was up"), ())
    record, found = found_in(network.model(), images[LABELS < 3])
    assert (record.dormant, record.tried, found) == (0, 0, ())
    assert "at most 3 classes, too few" in record.obstacle
