"""Models of several labels at once: named, never judged as a choice among classes, and read a label at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from backscan.converters.errors import OutputNameError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.parity.parity import compare
from backscan.converters.signature.columns import column_of
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import read_signature
from backscan.converters.torch_import.importer import import_model
from backscan.scanner.cli.inspect import describe, inspect_model
from backscan.scanner.errors import AbsentNameError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.results import Verdict
from tests import planted
from tests.scanner.pipeline.scans import QUICK

LABELS = 5


def with_sigmoids(output: str = "labels") -> bytes:
    """Five labels, each of ten pixels of its own: any number of them holds."""
    model = onnx.load_model_from_string(planted.shortcut(source=None))
    model.graph.node.append(helper.make_node("Sigmoid", ["scores"], [output], name="head"))
    model.graph.output[0].name = output
    return model.SerializeToString()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "labels.onnx"
    path.write_bytes(with_sigmoids())
    return path


def images(folder: Path, *, label: int | None = None, at_once: int = 2) -> CleanSet:
    """Images with so many labels at once; labelled by the first of them, or by whether one label holds."""
    pixels, first = planted.shortcut_images()
    bright = pixels.reshape(len(pixels), -1).copy()
    holds = np.zeros((len(pixels), LABELS), bool)
    for row, number in enumerate(first):
        for other in {(number + step) % LABELS for step in range(at_once)}:
            bright[row, 10 * other : 10 * other + 10] = 0.8
            holds[row, other] = True
    y = first if label is None else holds[:, label].astype(int)
    path = folder / f"images{label}{at_once}.npz"
    np.savez(path, x=np.moveaxis(bright.reshape(pixels.shape), 1, -1), y=y)
    return CleanSet.load(path, sandbox=False)


def test_several_labels_at_once_give_no_verdict_about_a_choice(model: Path, tmp_path: Path) -> None:
    result = scan(model, images(tmp_path), replace(QUICK, min_accuracy=0.0))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert (
        "on 100% of the images two or more of the 5 sigmoids of output 'labels' are above one half" in result.reasons[0]
    )
    assert "--output-name 'labels[0]'" in result.reasons[0]
    assert not result.pairs


def test_a_choice_by_the_largest_sigmoid_is_one_though_others_are_above_one_half(tmp_path: Path) -> None:
    """Sigmoids with a softmax's loss are often above one half in numbers, and their largest is the answer."""
    model = onnx.load_model_from_string(planted.shortcut(source=None))
    nodes, tensors = model.graph.node, model.graph.initializer
    nodes.append(helper.make_node("Add", ["scores", "lift"], ["lifted"], name="lift"))
    nodes.append(helper.make_node("Sigmoid", ["lifted"], ["labels"], name="head"))
    tensors.append(numpy_helper.from_array(np.float32(6.0).reshape(1), "lift"))
    model.graph.output[0].name = "labels"
    path = tmp_path / "lifted.onnx"
    path.write_bytes(model.SerializeToString())
    result = scan(path, images(tmp_path, at_once=1), QUICK)
    assert result.pairs
    assert any("the largest is the label of 100%, so it is taken for the decision" in text for text in result.warnings)


def test_sigmoids_of_which_one_holds_are_a_choice_as_before(model: Path, tmp_path: Path) -> None:
    result = scan(model, images(tmp_path, at_once=1), QUICK)
    assert result.verdict is Verdict.NOT_DETECTED
    assert result.pairs


@pytest.mark.parametrize("output", ["labels", "scores"])
def test_one_label_is_read_as_two_classes(output: str, tmp_path: Path) -> None:
    data = with_sigmoids() if output == "labels" else planted.shortcut(source=None)
    original = artifact_from_bytes("m.onnx", data)
    signature = read_signature(original, output_name=f"{output}[3]")
    assert (signature.num_classes, signature.num_scores) == (2, 1)
    assert signature.output_kind == ("sigmoids" if output == "labels" else "logits")
    assert "column 3" in signature.notes[0]
    artifact = readable(original, signature)
    assert artifact.sha256 == original.sha256
    assert readable(artifact, signature).data == artifact.data
    clean = images(tmp_path, label=3)
    runtime = open_runtime(artifact, signature)
    assert np.array_equal(runtime.decisions(clean.images), clean.labels)
    copy = import_model(artifact, signature)
    assert compare(copy, runtime, clean.images.copy(), real_images=True).passed


def test_a_label_is_scanned_by_its_name(model: Path, tmp_path: Path) -> None:
    result = scan(model, images(tmp_path, label=3), replace(QUICK, output_name="labels[3]"))
    assert result.clean_accuracy == 1.0
    assert result.model.num_classes == 2
    assert {(pair.source, pair.target) for pair in result.pairs} <= {(0, 1), (1, 0)}


@pytest.mark.parametrize("name", ["labels[5]", "nothing[1]", "labels[]", "labels[-1]"])
def test_columns_that_are_not_there(model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(AbsentNameError):
        scan(model, images(tmp_path), replace(QUICK, output_name=name))


def test_classes_of_a_softmax_are_no_labels_of_their_own() -> None:
    artifact = artifact_from_bytes("m", planted.linear_softmax(head="probabilities"))
    with pytest.raises(OutputNameError, match="gives 4 probabilities"):
        read_signature(artifact, output_name="scores[1]")


def test_an_output_may_be_called_like_a_column() -> None:
    assert column_of("a[1]", ["a", "a[1]"]) is None
    assert column_of("a[1]", ["a"]) == ("a", 1)
    assert read_signature(artifact_from_bytes("m", with_sigmoids("labels[3]")), output_name="labels[3]").num_scores == 5


def test_inspect_says_that_sigmoids_may_hold_at_once(model: Path) -> None:
    text = describe(inspect_model(model, replace(QUICK)))
    assert "labels     each sigmoid may hold by itself" in text
    assert "--output-name 'labels[0]' reads the first as two classes" in text
    assert "labels     " not in describe(inspect_model(model, replace(QUICK, output_name="labels[1]")))
