"""`scanner inspect` on models whose contents are known."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from backscan.scanner.cli.inspect import describe, exit_code, inspect_model
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode, NoVerdictError
from tests import planted

IN_PROCESS = ScanConfig(sandbox=False)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(planted.convolutional())
    return path


def test_tells_contents_signature_and_cuts(small):
    inspection = inspect_model(small, IN_PROCESS, tensors=True)
    model = onnx.load(small)
    assert sum(inspection["operators"].values()) == len(model.graph.node)
    assert inspection["opened"]["signature"]["input_name"] == model.graph.input[0].name
    assert inspection["violations"] == inspection["findings"] == []
    assert exit_code(inspection) is ExitCode.NOT_DETECTED
    text = describe(inspection)
    assert "no switches" in text
    assert "dormant units inside the model" in text
    assert set(inspection["dormant_units"]) == {"dormant", "tried", "deciding", "searched", "obstacle"}
    for tensor in inspection["tensors"]:
        assert tensor["name"] in text


def test_lists_every_refusal_without_opening(tmp_path):
    nodes = [
        helper.make_node("Evil", ["x"], ["h"], domain="evil.org"),
        helper.make_node("RandomNormalLike", ["h"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil.org", 1)]
    path = tmp_path / "refused.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets, ir_version=8), path)
    inspection = inspect_model(path, IN_PROCESS)
    assert "opened" not in inspection
    assert exit_code(inspection) is ExitCode.NO_VERDICT
    refusals = [line for line in describe(inspection).splitlines() if line.startswith("refused")]
    assert any("Evil" in line for line in refusals)
    assert any("RandomNormalLike" in line for line in refusals)


def test_bytes_that_are_no_model_have_no_inspection(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("this is no model")
    with pytest.raises(NoVerdictError, match="expected an ONNX model"):
        inspect_model(path, IN_PROCESS)
