"""Gates that hide how they rest, and gates for which there is no twin."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from backscan.converters import artifact_from_bytes, open_runtime, read_signature
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.findings import find_graph_findings
from backscan.scanner.switches.wild import moved_blocks
from benchmarks.hostile.models import CLASSES, IMAGE, classifier
from benchmarks.switches.kinds import KINDS, plant_kind

AWAKE = ("crossed-ends", "leaking-ramp", "outgrown-scores", "pole")
WITHOUT_TWIN = ("exclusive-or", "masked-bit", "quantised-scores")


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.1, 0.8, (40, *IMAGE)).astype(np.float32)


def _findings(model: onnx.ModelProto, images: NDArray[np.float32]) -> tuple[GraphFinding, ...]:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    signature = read_signature(artifact)
    runtime = open_runtime(artifact, signature)
    return find_graph_findings(artifact, signature, runtime.normalisation, images, decisions=runtime.decisions)


@pytest.mark.parametrize("kind", [*AWAKE, *WITHOUT_TWIN])
def test_is_demonstrated(kind: str, images: NDArray[np.float32]) -> None:
    planted = plant_kind(kind, classifier(opset=18), IMAGE, CLASSES)
    artifact = artifact_from_bytes("model.onnx", planted.SerializeToString())
    runtime = open_runtime(artifact, read_signature(artifact))
    assert (runtime.decisions(KINDS[kind].trigger(images)) == 1).all()
    shown = [finding for finding in _findings(planted, images) if finding.demonstrated]
    assert shown
    assert any("planted_" in node for node in shown[0].nodes)


def test_a_plain_model_has_none(images: NDArray[np.float32]) -> None:
    assert _findings(classifier(opset=18), images) == ()


def test_blocks_that_move_a_value(images: NDArray[np.float32]) -> None:
    def values(some: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [some[:, :, :2, :2].sum(axis=(1, 2, 3)), some.mean(axis=(1, 2, 3))]

    corner, whole = moved_blocks(values, images[0])
    assert corner.tolist() == [True] + [False] * 15
    assert whole.all()
