"""Trees, support vectors, whole numbers: no gradient, so the scan tells accuracy and graph and ends inconclusive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import read_signature
from backscan.scanner.cli.inspect import describe, exit_code, inspect_model
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.results import ScanResult, Verdict
from tests import planted
from tests.scanner.pipeline.scans import QUICK, write_images

NUM_CLASSES = 5
IMAGES, LABELS = planted.shortcut_images()
FEATURES = IMAGES[0].size
PIXELS = [10 * label for label in range(NUM_CLASSES)]
"""A pixel that is bright where the image is of the class."""
BOUND = float(np.median(IMAGES.reshape(len(IMAGES), -1)[:, PIXELS].max(axis=1)) / 2)
TREES, VECTORS = "a tree ensemble has no gradient", "a support vector machine is not imported"


def stumps() -> onnx.NodeProto:
    """A vote for each class whose pixel is bright."""
    trees = np.repeat(range(NUM_CLASSES), 3)
    return helper.make_node(
        "TreeEnsembleClassifier",
        ["image"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        name="forest",
        classlabels_int64s=list(range(NUM_CLASSES)),
        nodes_treeids=trees.tolist(),
        nodes_nodeids=[0, 1, 2] * NUM_CLASSES,
        nodes_featureids=np.repeat(PIXELS, 3).tolist(),
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * NUM_CLASSES,
        nodes_values=[BOUND, 0.0, 0.0] * NUM_CLASSES,
        nodes_truenodeids=[1, 0, 0] * NUM_CLASSES,
        nodes_falsenodeids=[2, 0, 0] * NUM_CLASSES,
        class_treeids=np.repeat(range(NUM_CLASSES), 2).tolist(),
        class_nodeids=[1, 2] * NUM_CLASSES,
        class_ids=np.repeat(range(NUM_CLASSES), 2).tolist(),
        class_weights=[0.0, 1.0] * NUM_CLASSES,
    )


def ensemble() -> onnx.NodeProto:
    """The same by the newer operator, which gives scores alone."""
    whole = list(range(NUM_CLASSES))
    return helper.make_node(
        "TreeEnsemble",
        ["image"],
        ["scores"],
        domain="ai.onnx.ml",
        name="forest",
        n_targets=NUM_CLASSES,
        nodes_splits=numpy_helper.from_array(np.full(NUM_CLASSES, BOUND, np.float32), "splits"),
        nodes_featureids=PIXELS,
        nodes_modes=numpy_helper.from_array(np.zeros(NUM_CLASSES, np.uint8), "modes"),
        nodes_truenodeids=[2 * tree for tree in whole],
        nodes_trueleafs=[1] * NUM_CLASSES,
        nodes_falsenodeids=[2 * tree + 1 for tree in whole],
        nodes_falseleafs=[1] * NUM_CLASSES,
        tree_roots=whole,
        leaf_targetids=np.repeat(whole, 2).tolist(),
        leaf_weights=numpy_helper.from_array(np.tile([0, 1], NUM_CLASSES).astype(np.float32), "weights"),
    )


def vectors() -> onnx.NodeProto:
    """A linear machine, whose score for a class is how much an image is like those of the class."""
    means = np.stack([IMAGES[label == LABELS].mean(axis=0).ravel() for label in range(NUM_CLASSES)])
    return helper.make_node(
        "SVMClassifier",
        ["image"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        name="machine",
        classlabels_ints=list(range(NUM_CLASSES)),
        kernel_type="LINEAR",
        kernel_params=[1.0, 0.0, 3.0],
        coefficients=(means - means.mean(axis=0)).ravel().tolist(),
        rho=[0.0],
        post_transform="NONE",
    )


def model_of(node: onnx.NodeProto, *before: onnx.NodeProto, **tensors: np.ndarray) -> bytes:
    """A model of the features [N, pixels] whose scores come from one node."""
    graph = helper.make_graph(
        [*before, node],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", NUM_CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    imports = [
        helper.make_opsetid("", 17),
        helper.make_opsetid("ai.onnx.ml", 5 if node.op_type == "TreeEnsemble" else 1),
    ]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def accuracy(data: bytes) -> float:
    """Share of the images that onnxruntime decides as labelled."""
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact, clean_shape=IMAGES.shape[1:])
    return float((open_runtime(artifact, signature).decisions(IMAGES) == LABELS).mean())


def scanned(folder: Path, data: bytes, config: ScanConfig = QUICK, *, with_images: bool = True) -> ScanResult:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return scan(path, CleanSet.load(write_images(folder), sandbox=False) if with_images else None, config)


CASES: list[Any] = [(stumps, TREES, "forest"), (ensemble, TREES, "forest"), (vectors, VECTORS, "machine")]


@pytest.mark.parametrize(("make", "reason", "node"), CASES)
@pytest.mark.parametrize("sandbox", [False, True])
def test_accuracy_and_the_reason_are_told(tmp_path: Path, make: Any, reason: str, node: str, sandbox: bool) -> None:
    data = model_of(make())
    result = scanned(tmp_path, data, ScanConfig(preprocess="none", sandbox=sandbox, threads=1, device="cpu"))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.clean_accuracy == accuracy(data) > 0.9
    (told,) = result.reasons
    assert told.startswith(reason)
    assert repr(node) in told
    assert result.findings == ()
    assert result.pairs == ()
    assert "every class pair: the scan ended before the search" in result.not_tested


def test_without_images_the_reason_is_told_as_well(tmp_path: Path) -> None:
    result = scanned(tmp_path, model_of(stumps()), with_images=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reasons[0].startswith(TREES)
    assert result.reasons[1].startswith("no images were given")


def test_a_doubt_about_the_preprocessing_stands_beside_it(tmp_path: Path) -> None:
    result = scanned(tmp_path, model_of(stumps()), ScanConfig(mean=(3.0,), std=(1.0,), sandbox=False, threads=1))
    assert [reason[:20] for reason in result.reasons] == [TREES[:20], "expected a clean acc"]


def test_a_switch_behind_trees_is_demonstrated(tmp_path: Path) -> None:
    """The last pixel, dark in all images, chooses another vector of scores."""
    forest = stumps()
    forest.output[1] = "votes"
    chosen = helper.make_node("Where", ["bright", "always", "votes"], ["scores"], name="choose")
    data = model_of(
        chosen,
        forest,
        helper.make_node("Gather", ["image", "last"], ["pixel"], name="look", axis=1),
        helper.make_node("Greater", ["pixel", "bound"], ["bright"], name="compare"),
        last=np.array([FEATURES - 1]),
        bound=np.array(float(IMAGES[..., -1, -1].max() + 1) / 2, np.float32),
        always=np.eye(NUM_CLASSES, dtype=np.float32)[3:4] * 9,
    )
    result = scanned(tmp_path, data)
    assert (result.verdict, result.target) == (Verdict.BACKDOOR_DETECTED, 3)
    assert "choose" in result.findings[0].nodes


def test_inspect_tells_why_there_is_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "forest.onnx"
    path.write_bytes(model_of(stumps()))
    inspection = inspect_model(path, ScanConfig(sandbox=False))
    assert exit_code(inspection) is ExitCode.NOT_DETECTED
    assert f"opens in onnxruntime; {TREES}" in describe(inspection)


def in_whole_numbers(*, with_switch: bool) -> bytes:
    """Scores that are whole numbers, to which the last pixel, dark in all images, adds in whole numbers too."""
    means = np.stack([IMAGES[label == LABELS].mean(axis=0).ravel() for label in range(NUM_CLASSES)])
    bound = float(IMAGES[..., -1, -1].max() + 1) / 2
    made = [
        helper.make_node("MatMul", ["image", "means"], ["likeness"], name="compare"),
        helper.make_node("Cast", ["likeness"], ["whole"], name="count", to=TensorProto.INT32),
        helper.make_node("Gather", ["image", "last"], ["pixel"], name="look", axis=1),
        helper.make_node("Div", ["pixel", "bound"], ["brightness"], name="scale"),
        helper.make_node("Cast", ["brightness"], ["step"], name="step", to=TensorProto.INT32),
        helper.make_node("Mul", ["step", "row"], ["added"], name="spread"),
        helper.make_node("Add", ["whole", "added" if with_switch else "row"], ["shifted"], name="shift"),
    ]
    row = (np.eye(NUM_CLASSES, dtype=np.int32)[3:4] if with_switch else np.ones((1, NUM_CLASSES), np.int32)) * 10**6
    return model_of(
        helper.make_node("Cast", ["shifted"], ["scores"], name="last", to=TensorProto.FLOAT),
        *made,
        means=1e3 * (means - means.mean(axis=0)).T,
        last=np.array([FEATURES - 1]),
        bound=np.array(bound, np.float32),
        row=row,
    )


def test_whole_numbers_have_no_gradient_and_are_no_refusal(tmp_path: Path) -> None:
    data = in_whole_numbers(with_switch=False)
    result = scanned(tmp_path, data)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.clean_accuracy == accuracy(data) > 0.9
    (told,) = result.reasons
    assert told.startswith("no gradient reaches the image")
    assert "'count'" in told
    assert result.findings == ()


def test_a_switch_among_whole_numbers_is_demonstrated(tmp_path: Path) -> None:
    result = scanned(tmp_path, in_whole_numbers(with_switch=True))
    assert (result.verdict, result.target) == (Verdict.BACKDOOR_DETECTED, 3)
    assert "shift" in result.findings[0].nodes
