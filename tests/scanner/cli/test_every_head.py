"""`--output-name all`: a scan and a report for every head, and one exit code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.signature.heads import class_heads
from backscan.scanner.cli import several_models
from backscan.scanner.cli.command_options import Keeping, NamedImages
from backscan.scanner.cli.exit_code import outcome
from backscan.scanner.cli.inspect import inspect_model
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode
from backscan.scanner.reports import RENDERERS, render
from backscan.scanner.results import ScanResult, Verdict
from tests import planted
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, write_images

EVERY = replace(QUICK, output_name="all")


def with_head(*, source: int | None, second: int | None) -> bytes:
    """Two heads of five classes, `scores` and `other`, each with a planted pair or without."""
    first, other = (onnx.load_from_string(planted.shortcut(source=s, target=TARGET)) for s in (source, second))
    other = onnx.compose.add_prefix(other, "b_")
    for node in other.graph.node:
        node.input[:] = ["image" if name == "b_image" else name for name in node.input]
        node.output[:] = ["other" if name == "b_scores" else name for name in node.output]
    first.graph.node.extend(other.graph.node)
    first.graph.initializer.extend(other.graph.initializer)
    first.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 5]))
    return first.SerializeToString()


def scanned(folder: Path, data: bytes, config: ScanConfig = EVERY) -> list[ScanResult]:
    path = folder / "m.onnx"
    path.write_bytes(data)
    images = NamedImages(data=write_images(folder))
    return list(several_models.scanned([path], several_models.Order(config, images, None, Keeping())))


@pytest.mark.parametrize(("second", "code"), [(SOURCE, ExitCode.DETECTED), (None, ExitCode.NOT_DETECTED)])
def test_each_head_has_a_report_and_the_worst_decides(tmp_path, second, code):
    results = scanned(tmp_path, with_head(source=None, second=second))
    assert [result.model.name for result in results] == ["m.onnx (output scores)", "m.onnx (output other)"]
    assert [result.model.signature.output_name for result in results] == ["scores", "other"]
    assert results[0].verdict is Verdict.NOT_DETECTED
    assert (results[1].verdict is Verdict.BACKDOOR_DETECTED) == (second is not None)
    assert outcome(results).code is code
    for format_ in RENDERERS:
        assert "output other" in render(results, format_).replace("%20", " ")


def test_a_model_of_one_head_is_scanned_as_ever(tmp_path):
    (result,) = scanned(tmp_path, planted.shortcut(source=SOURCE, target=TARGET))
    (plain,) = scanned(tmp_path, planted.shortcut(source=SOURCE, target=TARGET), QUICK)
    assert result.model.name == plain.model.name == "m.onnx"
    assert (result.verdict, result.p_value) == (plain.verdict, plain.p_value)


def test_what_cannot_be_read_has_no_verdict(tmp_path):
    (result,) = scanned(tmp_path, b"no model")
    assert result.verdict is Verdict.NO_VERDICT


def test_labels_of_more_classes_than_a_head_has_do_not_count_for_it(tmp_path):
    model = onnx.load_from_string(planted.shortcut(source=None, target=TARGET))
    width = planted.shortcut_images()[0][0].size
    weight = np.random.default_rng(0).normal(size=(width, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "few"))
    model.graph.node.append(helper.make_node("Flatten", ["image"], ["row"], name="row"))
    model.graph.node.append(helper.make_node("MatMul", ["row", "few"], ["three"], name="three"))
    model.graph.output.append(helper.make_tensor_value_info("three", TensorProto.FLOAT, ["N", 3]))
    results = scanned(tmp_path, model.SerializeToString())
    assert [result.model.num_classes for result in results] == [5, 3]
    assert results[0].clean_accuracy == 1.0
    assert results[1].clean_accuracy is None
    assert any("more classes than the 3 of output 'three'" in text for text in results[1].warnings)


def test_scores_that_only_show_in_a_choice_are_a_head():
    model = onnx.load_from_string(with_head(source=None, second=None))
    model.graph.node.append(helper.make_node("ArgMax", ["other"], ["label"], name="label", axis=1))
    model.graph.node.append(helper.make_node("Softmax", ["scores"], ["chances"], name="chances", axis=1))
    model.graph.output[1].CopyFrom(helper.make_tensor_value_info("label", TensorProto.INT64, ["N", 1]))
    model.graph.output.append(helper.make_tensor_value_info("chances", TensorProto.FLOAT, ["N", 5]))
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    assert class_heads(artifact, image_size=None, clean_shape=None) == (("chances", 5), ("other", 5))


def test_inspect_takes_the_first_of_all(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(with_head(source=None, second=None))
    opened = inspect_model(path, ScanConfig(sandbox=False, output_name="all"))["opened"]
    assert opened["signature"]["output_name"] == "scores"
    assert tuple(opened["outputs_beside"]) == ("other",)
