"""Answers that depend on the rest of a call are found, and rounding is not taken for that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from backscan.converters import artifact_from_bytes, open_runtime, read_artifact, read_signature
from backscan.converters.errors import EngineError
from backscan.converters.switches.batch_sizes import nodes_that_count_images
from backscan.scanner.results import DEPENDS_ON_CALL
from backscan.scanner.switches.company import compare_calls, find_dependence
from tests import planted
from tests.calls import alone_or_not, changed, counting

FIXTURES = Path("tests/converters/fixtures")
ORDINARY = ["jax_free", "jax_batch4", "keras_export", "quantised_dynamic", "quantised_qdq", "sklearn_pipeline"]
SHAPE = (1, 6, 6)


def dependence(model: bytes, images: np.ndarray | None = None):
    artifact = artifact_from_bytes("m.onnx", model)
    return find_dependence(artifact, open_runtime(artifact, read_signature(artifact), threads=1), images, seed=0)


def over_call(operator: str, **attributes: int) -> bytes:
    """A linear classifier whose scores are set against what all of the call's scores give."""
    reduce = helper.make_node(operator, ["scores"], ["all"], name="reduce", keepdims=1, **attributes)
    return changed(planted.linear_softmax(), reduce, helper.make_node("Sub", ["scores", "all"], ["answer"], name="sub"))


@pytest.mark.parametrize("name", ORDINARY)
def test_what_exporters_write_has_none(name):
    artifact = read_artifact(FIXTURES / f"{name}.onnx", max_bytes=10**8)
    runtime = open_runtime(artifact, read_signature(artifact), threads=1)
    assert find_dependence(artifact, runtime, None, seed=0) == ()


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_a_model_that_answers_each_image_by_itself_has_none(batch):
    assert dependence(planted.convolutional(batch=batch)) == ()


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
def test_statistics_over_the_call_are_found(operator):
    (finding,) = dependence(over_call(operator))
    assert finding.rule == DEPENDS_ON_CALL
    assert not finding.demonstrated


def test_softmax_over_the_call_is_found():
    softmax = helper.make_node("Softmax", ["scores"], ["answer"], name="softmax", axis=0)
    (finding,) = dependence(changed(planted.linear_softmax(), softmax))
    assert finding.rule == DEPENDS_ON_CALL


def test_a_fixed_call_of_several_is_tried_too():
    mean = helper.make_node("ReduceMean", ["scores"], ["all"], name="mean", axes=[0], keepdims=1)
    sub = helper.make_node("Sub", ["scores", "all"], ["answer"], name="sub")
    assert dependence(changed(planted.linear_softmax(batch=4), mean, sub))


@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_look_at_the_number_of_images_is_named(size):
    (finding,) = dependence(alone_or_not(planted.linear_softmax(seed=1), planted.linear_softmax(seed=2), size=size))
    assert finding.nodes == ("compare",)


def test_a_look_that_changes_nothing_on_ordinary_images_is_named():
    """Alone and even at one grey: neither a clean image shows it nor a wild one, the graph does."""
    nodes = [
        *counting(1),
        helper.make_node("Sub", ["image", "grey"], ["off"], name="off"),
        helper.make_node("Abs", ["off"], ["gap"], name="gap"),
        helper.make_node("ReduceMax", ["gap"], ["farthest"], name="farthest", axes=[1, 2, 3], keepdims=0),
        helper.make_node("Less", ["farthest", "hair"], ["even"], name="even"),
        helper.make_node("And", ["even", "is"], ["both"], name="both"),
        helper.make_node("Unsqueeze", ["both", "last"], ["column"], name="column"),
        helper.make_node("Where", ["column", "target", "scores"], ["answer"], name="choose"),
    ]
    tensors = {"first": np.array(0), "size": np.array(1), "grey": np.array(0.77, np.float32)}
    tensors |= {
        "hair": np.array(0.005, np.float32),
        "last": np.array([1]),
        "target": np.array([[0, 0, 0, 99]], np.float32),
    }
    (finding,) = dependence(changed(planted.linear_softmax(), *nodes, **tensors))
    assert finding.nodes == ("compare",)
    assert "0 are decided otherwise" in finding.evidence


def test_a_pixel_compared_with_those_of_the_others_is_found():
    """A backdoor that works in company alone, where a corner is far brighter than others: that of a wild image is."""
    corner = [
        helper.make_node("Slice", ["image", "from", "to", "axes"], ["corner"], name="corner"),
        helper.make_node("ReduceMean", ["corner"], ["own"], name="own", axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["own"], ["all"], name="all", axes=[0], keepdims=1),
        helper.make_node("Sub", ["own", "all"], ["above"], name="above"),
        helper.make_node("Greater", ["above", "far"], ["lit"], name="lit"),
        helper.make_node("Unsqueeze", ["lit", "last"], ["column"], name="column"),
        helper.make_node("Where", ["column", "target", "scores"], ["answer"], name="choose"),
    ]
    tensors = {"from": np.zeros(2, int), "to": np.full(2, 2), "axes": np.array([2, 3]), "last": np.array([1])}
    tensors |= {"far": np.array(0.4, np.float32), "target": np.array([[0, 0, 0, 99]], np.float32)}
    model = changed(planted.linear_softmax(), *corner, **tensors)
    images = np.random.default_rng(0).uniform(0.2, 0.6, (40, *SHAPE)).astype(np.float32)
    (finding,) = dependence(model, images)
    assert finding.rule == "depends-on-call"


def test_a_token_repeated_for_each_image_is_no_look_at_their_number():
    """As transformers do: a constant expanded to the number of images, and a count of images used as an index."""
    nodes = [
        *counting(1)[:2],
        helper.make_node("Unsqueeze", ["count", "zero"], ["counts"], name="counts"),
        helper.make_node("Concat", ["counts", "one"], ["target"], name="target", axis=0),
        helper.make_node("Expand", ["token", "target"], ["tokens"], name="tokens"),
        helper.make_node("Add", ["scores", "tokens"], ["answer"], name="add"),
    ]
    tensors = {"first": np.array(0), "zero": np.array([0]), "one": np.array([1])}
    tensors |= {"token": np.array([[0.5]], np.float32)}
    assert dependence(changed(planted.linear_softmax(), *nodes, **tensors)) == ()


def test_a_model_that_takes_no_single_image_is_compared_in_company():
    """Cut to two images and padded again: a call of one fails, and all others are alike."""
    fail = [helper.make_node("Slice", ["scores", "start", "end", "axis"], ["second"], name="second")]
    fail.append(helper.make_node("Reshape", ["second", "row"], ["one"], name="row"))
    fail.append(helper.make_node("Sub", ["one", "one"], ["zero"], name="zero"))
    fail.append(helper.make_node("Add", ["scores", "zero"], ["answer"], name="add"))
    tensors = {"start": np.array([1]), "end": np.array([2]), "axis": np.array([0]), "row": np.array([1, 4])}
    model = changed(planted.linear_softmax(), *fail, **tensors)
    artifact = artifact_from_bytes("m.onnx", model)
    runtime = open_runtime(artifact, read_signature(artifact), threads=1)
    images = np.random.default_rng(0).random((6, *SHAPE), dtype=np.float32)
    with pytest.raises(EngineError):
        runtime.scores(images[:1])
    assert find_dependence(artifact, runtime, images, seed=0) == ()
    assert runtime.decisions_alone(images).tolist() == runtime.decisions(images).tolist()


def test_fixed_batches_count_no_images():
    artifact = artifact_from_bytes("m.onnx", planted.linear_softmax(batch=4))
    assert nodes_that_count_images(artifact, read_signature(artifact)) == ()


def test_the_gap_is_relative_to_the_largest_score():
    artifact = artifact_from_bytes("m.onnx", over_call("ReduceMax"))
    runtime = open_runtime(artifact, read_signature(artifact), threads=1)
    images = np.random.default_rng(0).random((6, *SHAPE), dtype=np.float32)
    difference = compare_calls(runtime, images, seed=0)
    alone = np.concatenate([runtime.scores(image[None]) for image in images])
    together = runtime.scores(images)
    assert difference.gap >= np.abs(together - alone).max() / np.abs(alone).max()
    assert difference.num_images == 6


def test_scores_that_are_not_finite_are_equal_to_themselves():
    log = helper.make_node("Log", ["negative"], ["answer"], name="log")
    model = changed(planted.linear_softmax(), helper.make_node("Neg", ["scores"], ["negative"], name="neg"), log)
    assert dependence(model) == ()
