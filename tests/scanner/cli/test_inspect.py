"""`scanner inspect` on models whose contents are known."""

from __future__ import annotations

import hashlib
import pickle

import onnx
import pytest
from onnx import TensorProto, helper, parser

from backscan.converters.errors import ConverterError
from backscan.scanner.cli.inspect import describe, exit_code, inspect_model
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode, UserError
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


@pytest.mark.parametrize("sandbox", [False, True])
def test_a_file_that_is_no_onnx_model_is_named_as_what_it_is(tmp_path, sandbox):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"weight": 1.0}, protocol=2))
    inspection = inspect_model(path, ScanConfig(sandbox=sandbox))
    assert exit_code(inspection) is ExitCode.NO_VERDICT
    text = describe(inspection)
    assert f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" in text
    assert "refused    expected an ONNX model, found pickled Python objects, which are never unpickled" in text


def test_a_model_of_something_else_shows_all_that_its_graph_declares(tmp_path):
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17], producer_name: "maker">
        g (float[N,3,32,32] image) => (float[N,5,32,32] maps) <float[5,3,1,1] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6}> {
            maps = Conv(image, w)
        }""")
    path = tmp_path / "maps.onnx"
    onnx.save(model, path)
    inspection = inspect_model(path, IN_PROCESS)
    assert exit_code(inspection) is ExitCode.NO_VERDICT
    text = describe(inspection)
    for line in (
        "operators  Conv 1",
        "declares   input 'image': float [N, 3, 32, 32]",
        "declares   output 'maps': float [N, 5, 32, 32]",
        "opset      ai.onnx 17, made by maker",
    ):
        assert line in text.splitlines()
    assert any(line.startswith("refused") for line in text.splitlines())


def test_a_model_without_a_copy_in_torch_still_shows_signature_and_graph(monkeypatch, small):
    def refuse(*_, **__):
        raise ConverterError("no copy today")

    monkeypatch.setattr("backscan.converters.import_model", refuse)
    inspection = inspect_model(small, IN_PROCESS, tensors=True)
    assert exit_code(inspection) is ExitCode.NO_VERDICT
    text = describe(inspection)
    assert "refused    no copy today" in text
    assert "no copy in torch, so it cannot be scanned" in text
    assert "4 classes" in text
    assert inspection["tensors"]
    assert "no switches" in text


def test_a_folder_is_told_by_what_lies_in_it(tmp_path, small):
    with pytest.raises(UserError, match=r"in it was small\.onnx: name it"):
        inspect_model(small.parent, IN_PROCESS)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match=r"tf2onnx\.convert --saved-model"):
        inspect_model(tmp_path / "saved", IN_PROCESS)


def scores(num_classes: int) -> bytes:
    return planted.shortcut(num_classes=num_classes, source=None)


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5])
def test_of_few_classes_it_says_what_is_tested_and_with_what_power(tmp_path, num_classes):
    path = tmp_path / "few.onnx"
    path.write_bytes(scores(num_classes))
    told = [line for line in describe(inspect_model(path, IN_PROCESS)).splitlines() if line.startswith("classes ")]
    if num_classes > 4:
        assert told == []
    else:
        assert f"a scan of {num_classes} judges by detector transferability" in told[0]
        assert "a patch of a few pixels, or an attack both ways, may be missed" in told[0]
        assert "16 of 20 planted chessboards" in told[1]
