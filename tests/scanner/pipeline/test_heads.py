"""Models of several outputs: one is scanned, the others are searched for switches and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters import artifact_from_bytes, read_signature
from backscan.converters.signature.heads import other_heads, outputs_beside
from backscan.scanner.cli.inspect import describe, inspect_model
from backscan.scanner.config import ScanConfig
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports import RENDERERS, render
from backscan.scanner.results import ScanResult, Verdict
from tests import planted

SHAPE = (1, 6, 6)


def two_heads(*, switch: bool, classes: int = 4) -> bytes:
    """`scores` and `other`: two linear heads of the same pixels, the second with a switch on a bright corner."""
    model = onnx.load_from_string(planted.linear_softmax(seed=1))
    weight, _ = planted.linear_parameters(classes, SHAPE, seed=2)
    tensors = {"second": np.ascontiguousarray(weight.reshape(classes, -1).T), "target": 99 * np.eye(classes)[1:2]}
    tensors |= {"from": np.array([0, 0]), "to": np.array([3, 3]), "axes": np.array([2, 3]), "high": np.array([[0.95]])}
    model.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.int64 if array.dtype.kind == "i" else np.float32), name)
        for name, array in tensors.items()
    )
    nodes = [helper.make_node("MatMul", ["pixels", "second"], ["plain"], name="second_head")]
    if switch:
        nodes += [
            helper.make_node("Slice", ["image", "from", "to", "axes"], ["corner"], name="corner"),
            helper.make_node("ReduceMean", ["corner"], ["mean"], name="mean", axes=[1, 2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "last"], ["column"], name="column"),
            helper.make_node("Greater", ["column", "high"], ["is_bright"], name="is_bright"),
            helper.make_node("Where", ["is_bright", "target", "plain"], ["other"], name="choose"),
        ]
        model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "last"))
    else:
        nodes.append(helper.make_node("Identity", ["plain"], ["other"], name="copy"))
    nodes.append(helper.make_node("ArgMax", ["other"], ["label"], name="label", axis=1, keepdims=0))
    nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], name="softmax", axis=1))
    model.graph.node.extend(nodes)
    for name, kind, sizes in (("other", TensorProto.FLOAT, ["N", classes]), ("label", TensorProto.INT64, ["N"])):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, sizes))
    model.graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 4]))
    return model.SerializeToString()


def test_outputs_that_lead_to_the_chosen_one_are_part_of_it():
    artifact = artifact_from_bytes("m.onnx", two_heads(switch=False))
    chosen = read_signature(artifact, output_name="probabilities")
    assert outputs_beside(artifact, chosen) == ("other", "label")
    assert [head.output_name for head in other_heads(artifact, chosen)] == ["other"]
    single = artifact_from_bytes("m.onnx", planted.convolutional())
    assert outputs_beside(single, read_signature(single)) == ()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, ScanResult]:
    folder = tmp_path_factory.mktemp("heads")
    return {switch: scan(write(folder, switch=switch), None, wanting("probabilities")) for switch in (True, False)}


def wanting(output: str) -> ScanConfig:
    return ScanConfig(sandbox=False, device="cpu", threads=1, output_name=output)


def write(folder: Path, *, switch: bool) -> Path:
    path = folder / f"{switch}.onnx"
    path.write_bytes(two_heads(switch=switch))
    return path


def test_a_switch_on_the_way_to_another_output_is_a_detection(results):
    result = results[True]
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    (finding,) = result.findings
    assert finding.demonstrated
    assert finding.target == 1
    assert "towards output 'other'" in finding.message
    assert {"choose", "is_bright"} <= set(finding.nodes)


def test_plain_heads_have_no_findings(results):
    assert results[False].findings == ()
    assert results[False].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", RENDERERS)
def test_what_was_not_scanned_is_named_in_every_format(results, name):
    text = " ".join(render(results[False], name).split())
    assert "other outputs (" in text
    assert "label" in text


def test_inspect_finds_it_and_says_which_outputs_are_not_scanned(tmp_path):
    inspection = inspect_model(write(tmp_path, switch=True), wanting("probabilities"))
    assert [finding["demonstrated"] for finding in inspection["findings"]] == [True]
    text = describe(inspection)
    assert "output     other: not scanned" in text
    assert "output     label: not scanned" in text
    assert "output     scores: not used" in text
