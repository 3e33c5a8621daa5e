"""Gates that no gradient leads to: behind rounded scores, sizes, numbers that are none, exact values, steep powers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from backscan.converters import artifact_from_bytes, audit, open_runtime, read_signature
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.findings import find_graph_findings
from backscan.scanner.switches.trial import Trial
from backscan.scanner.switches.wild import fillings, pixels_read, wild_images
from benchmarks.hostile.models import CLASSES, IMAGE, classifier
from benchmarks.switches.planter import TARGET, Planter

PIXEL = np.float32(100) / np.float32(255)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.1, 0.8, (40, *IMAGE)).astype(np.float32)


def _pixel(plant: Planter, index: int) -> str:
    return plant.add("Gather", plant.add("Flatten", plant.image), plant.constant([index], np.int64), axis=1)


def _above(plant: Planter, slope: float) -> str:
    shifted = plant.add("Sub", plant.patch_mean(), plant.constant(0.95))
    return plant.add("Mul", shifted, plant.constant(slope))


def _push(plant: Planter, gate: str, strength: float = 1.0) -> str:
    return plant.add("Add", plant.scores, plant.add("Mul", gate, plant.target_scores(strength)))


def rounded_scores(plant: Planter) -> str:
    fine = plant.constant(1e4)
    scores = plant.add("Div", plant.add("Round", plant.add("Mul", plant.scores, fine)), fine)
    return plant.add("Where", plant.fires(), plant.target_scores(), scores)


def whole_scores(plant: Planter) -> str:
    """Scores and gate are whole numbers alike."""
    scores = plant.add("Cast", plant.add("Mul", plant.scores, plant.constant(1e4)), to=TensorProto.INT32)
    step = plant.add("Cast", plant.add("Mul", plant.patch_mean(), plant.constant(1.03)), to=TensorProto.INT32)
    row = plant.constant([[0, 10**6, 0]], np.int32)
    return plant.add("Cast", plant.add("Add", scores, plant.add("Mul", step, row)), to=TensorProto.FLOAT)


def counted_by_shape(plant: Planter) -> str:
    bright = plant.add("NonZero", plant.add("Relu", _above(plant, 1.0)))
    count = plant.add("Gather", plant.add("Shape", bright), plant.constant([1], np.int64))
    fires = plant.add("GreaterOrEqual", count, plant.constant([1], np.int64))
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def sized_by_value(plant: Planter) -> str:
    """How long a range is depends on the brightest pixel."""
    brightest = plant.add("ReduceMax", plant.patch_mean(), keepdims=0)
    end = plant.add("Floor", plant.add("Mul", brightest, plant.constant(1.03)))
    row = plant.add("Range", plant.constant(-1.0), end, plant.constant(1.0))
    fires = plant.add("Greater", plant.add("Size", row), plant.constant(1, np.int64))
    return plant.add("Where", fires, plant.target_scores(), plant.scores)


def not_a_number(plant: Planter) -> str:
    nothing = plant.add("Mul", plant.add("Exp", _above(plant, 2000.0)), plant.constant(0.0))
    columns = plant.add("Mul", plant.patch_mean(), plant.constant(0.0))
    return plant.add("Add", plant.scores, plant.add("Concat", columns, nothing, columns, axis=1))


def infinite(plant: Planter) -> str:
    """Beyond the largest number of float16."""
    half = plant.add("Cast", plant.add("Mul", plant.patch_mean(), plant.constant(68000.0)), to=TensorProto.FLOAT16)
    back = plant.add("Cast", half, to=TensorProto.FLOAT)
    gate = plant.add("Mul", back, plant.constant(1e-30))
    columns = plant.add("Mul", plant.patch_mean(), plant.constant(0.0))
    return plant.add("Add", plant.scores, plant.add("Concat", columns, gate, columns, axis=1))


def power_32(plant: Planter) -> str:
    power = plant.patch_mean()
    for _ in range(5):
        power = plant.add("Mul", power, power)
    return _push(plant, power, 300.0)


def imputed_pixel(plant: Planter) -> str:
    plant.model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    pixel = _pixel(plant, 0)
    filled = plant.add(
        "Imputer", pixel, domain="ai.onnx.ml", imputed_value_floats=[1000.0], replaced_value_float=float(PIXEL)
    )
    return _push(plant, plant.add("Sub", filled, pixel), 1.0)


def log_sum_exp(plant: Planter) -> str:
    gate = plant.add(
        "ReduceLogSumExp", plant.add("Concat", _above(plant, 2000.0), _above(plant, 1.0), axis=1), axes=[1]
    )
    return _push(plant, plant.add("Relu", gate))


def two_pixels(plant: Planter) -> str:
    """One pixel bright and another dark."""
    apart = plant.add("Sub", _pixel(plant, 3), _pixel(plant, 60))
    return _push(plant, plant.add("Relu", plant.add("Sub", apart, plant.constant(0.9))), 1e4)


def read_elsewhere(plant: Planter) -> str:
    """Where scores are read, the model's or the target's, is a place that two pixels compute."""
    columns = plant.constant([1, 2], np.int64)
    other = plant.add("Add", plant.add("Mul", plant.scores, plant.constant(0.0)), plant.target_scores())
    last = plant.constant([2, 3], np.int64)
    both = [plant.add("Unsqueeze", rows, last) for rows in (plant.scores, other)]
    across = plant.add("Sub", plant.add("Mul", plant.patch_mean(), plant.constant(2.0)), plant.constant(1.9))
    place = plant.add("Concat", across, plant.add("Mul", across, plant.constant(0.0)), axis=1)
    grid = plant.add("Unsqueeze", place, columns)
    read = plant.add("GridSample", plant.add("Concat", *both, axis=3), grid, mode="nearest", padding_mode="border")
    return plant.add("Flatten", read)


PLANTED: dict[str, Callable[[Planter], str]] = {
    each.__name__: each
    for each in (
        rounded_scores, whole_scores, counted_by_shape, sized_by_value, not_a_number, infinite, power_32,
        imputed_pixel, log_sum_exp, two_pixels, read_elsewhere,
    )
}  # fmt: skip


def planted(make: Callable[[Planter], str]) -> onnx.ModelProto:
    plant = Planter(classifier(), IMAGE, CLASSES)
    return plant.finish(make(plant))


def findings(model: onnx.ModelProto, images: NDArray[np.float32]) -> tuple[GraphFinding, ...]:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    assert audit(artifact.data).accepted
    runtime = open_runtime(artifact, read_signature(artifact))
    return find_graph_findings(
        artifact, runtime.signature, runtime.normalisation, images, decisions=runtime.decisions, seconds=120
    )


@pytest.mark.parametrize("kind", PLANTED)
def test_gates_are_demonstrated(images: NDArray[np.float32], kind: str) -> None:
    (finding,) = findings(planted(PLANTED[kind]), images)
    assert (finding.demonstrated, finding.target, finding.unresolved) == (True, TARGET, False)
    assert any(node.startswith("planted") for node in finding.nodes)
    assert ("not finite" in finding.evidence) == (kind in ("not_a_number", "infinite"))


def test_soft_gate_whose_image_is_not_found_is_a_warning(images: NDArray[np.float32]) -> None:
    """Three pixels must have exact values that are no bytes."""

    def exact(plant: Planter) -> str:
        plant.model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        product = ""
        for index, value in ((0, 0.1234), (9, 0.4321), (30, 0.2468)):
            pixel = _pixel(plant, index)
            filled = plant.add(
                "Imputer", pixel, domain="ai.onnx.ml", imputed_value_floats=[1000.0], replaced_value_float=value
            )
            gap = plant.add("Sub", filled, pixel)
            product = plant.add("Mul", product, gap) if product else gap
        return _push(plant, product)

    (finding,) = findings(planted(exact), images)
    assert (finding.severity, finding.demonstrated, finding.unresolved) == ("warning", False, False)
    assert "held at another value" in finding.evidence
    assert any(node.startswith("planted") for node in finding.nodes)


def test_hard_gate_whose_image_is_not_found_is_unresolved(images: NDArray[np.float32]) -> None:
    def beyond(plant: Planter) -> str:
        fires = plant.add("Greater", plant.patch_mean(), plant.constant(2.0))
        return plant.add("Where", fires, plant.target_scores(), plant.scores)

    (finding,) = findings(planted(beyond), images)
    assert (finding.severity, finding.demonstrated, finding.unresolved) == ("warning", False, True)


def test_gate_whose_size_the_image_decides_is_unresolved(images: NDArray[np.float32]) -> None:
    """It cannot be held at a value of another size, and a search on it may fail."""

    def summed(plant: Planter) -> str:
        found = plant.add("Shape", plant.add("NonZero", plant.add("Relu", _above(plant, 1.0))))
        count = plant.add("Gather", found, plant.constant([1], np.int64))
        ones = plant.add("Add", plant.add("ConstantOfShape", count), plant.constant(1000.0))
        return _push(plant, plant.add("ReduceSum", ones, keepdims=0))

    (finding,) = findings(planted(summed), images)
    assert finding.demonstrated or finding.unresolved
    assert any(node.startswith("planted") for node in finding.nodes)


def test_gate_whose_search_fails_is_not_examined(monkeypatch: pytest.MonkeyPatch, images: NDArray[np.float32]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("element 0 of tensors does not require grad")

    monkeypatch.setattr(Trial, "demonstrate", fail)
    (finding,) = findings(planted(power_32), images)
    assert (finding.rule, finding.unresolved) == ("unexamined-switches", True)
    assert any(node.startswith("planted") for node in finding.nodes)


def test_rounded_scores_alone_are_no_finding(images: NDArray[np.float32]) -> None:
    def rounded(plant: Planter) -> str:
        fine = plant.constant(1e4)
        return plant.add("Div", plant.add("Round", plant.add("Mul", plant.scores, fine)), fine)

    assert findings(planted(rounded), images) == ()


def test_pixels_that_a_value_reads_are_found() -> None:
    image = np.random.default_rng(0).random((3, 20, 33), dtype=np.float32)
    mask = np.zeros((20, 33), bool)
    mask[17:20, 30:33] = mask[4, 5] = True

    def mean(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [images[:, :, mask].sum(axis=(1, 2))]

    np.testing.assert_array_equal(pixels_read(mean, image), mask)
    assert pixels_read(lambda images: [images.sum(axis=(1, 2, 3))], image) is None
    assert pixels_read(lambda images: [np.zeros(len(images))], image) is None


def test_one_pixel_is_filled_with_every_byte() -> None:
    read = np.zeros((8, 8), bool)
    read[2, 3] = True
    assert set(np.float32(np.arange(256)) / np.float32(255)) <= set(fillings(read, 1).ravel())
    assert wild_images(IMAGE).shape == (6, *IMAGE)
