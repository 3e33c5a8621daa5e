"""Models of several outputs: one is scanned, the others are searched for switches and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters import artifact_from_bytes, read_signature
from backscan.converters.signature.heads import other_heads, outputs_beside
from backscan.converters.signature.labels import Labels, read_labels
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


@pytest.mark.parametrize("name", [name for name in RENDERERS if name != "verification"])  # it only names what passed
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


def labelled(made: str, *, hidden: bool = False) -> bytes:
    """Scores whose class number `label` goes through some nodes; they may read `largest`, `corner` and `scores`."""
    model = onnx.load_from_string(planted.linear_softmax(seed=1))
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]> g (float[N,1,6,6] image, float[N,4] scores) => (int64[N] label)
        <int64[2] from = {{0, 0}}, int64[2] to = {{3, 3}}, int64[2] axes = {{2, 3}}, float high = {{0.95}},
         float low = {{0.3}}, int64 three = {{3}}, int64 none = {{-1}}> {{
            largest = ArgMax <axis = 1, keepdims = 0> (scores)
            part = Slice(image, from, to, axes) corner = ReduceMean <axes = [1, 2, 3], keepdims = 0> (part)
            {made}
        }}
    """
    graph = onnx.parser.parse_model(text).graph
    model.graph.node.extend(graph.node)
    model.graph.initializer.extend(graph.initializer)
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]))
    if hidden:
        del model.graph.output[0]
    return model.SerializeToString()


GATE = "bright = Greater(corner, high) label = Where(bright, three, largest)"
REJECTS = """
    chances = Softmax <axis = 1> (scores) most = ReduceMax <axes = [1], keepdims = 0> (chances)
    doubtful = Less(most, low) label = Where(doubtful, none, largest)
"""


def scan_of(folder: Path, data: bytes) -> ScanResult:
    (folder / "m.onnx").write_bytes(data)
    return scan(folder / "m.onnx", None, wanting("scores"))


def test_a_gate_between_scores_and_class_number_is_a_detection(tmp_path):
    result = scan_of(tmp_path, labelled(GATE))
    assert (result.verdict, result.target) == (Verdict.BACKDOOR_DETECTED, 3)
    (finding,) = result.findings
    assert finding.message.startswith("towards output 'label': ")
    assert finding.nodes[0].startswith("Where")


@pytest.mark.parametrize(
    "made",
    [
        "label = Identity(largest)",
        "chances = Softmax <axis = 1> (scores) label = ArgMax <axis = 1, keepdims = 0> (chances)",
        "value, places = TopK <axis = 1> (scores, three_of) label = Squeeze(places)",
    ],
)
def test_the_place_of_the_largest_score_costs_nothing(made):
    model = onnx.load_from_string(labelled(made))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "three_of"))
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    signature = read_signature(artifact, output_name="scores")
    assert read_labels(artifact, signature) == Labels()


def test_a_threshold_on_the_scores_is_named_and_no_finding(tmp_path):
    result = scan_of(tmp_path, labelled(REJECTS))
    assert result.findings == ()
    (note,) = (text for text in result.not_tested if "the class number" in text)
    assert "'label', which node 'Where#" in note
    assert "seen through the scores alone" in note


def test_a_number_that_is_no_class_is_seen_too(tmp_path):
    result = scan_of(tmp_path, labelled(GATE.replace("three", "none")))
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    assert result.findings[0].target is None


def test_a_gate_behind_the_hidden_scores_of_a_class_number_is_found(tmp_path):
    """The scores are no output: their largest and its class are."""
    model = onnx.load_from_string(labelled(GATE + " places = ArgMax <axis = 1> (scores)"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("places", TensorProto.INT64, ["N", 1]))
    result = scan_of(tmp_path, model.SerializeToString())
    assert (result.verdict, result.target) == (Verdict.BACKDOOR_DETECTED, 3)


TEXTS = 'keys_int64s = [0, 1, 2, 3], values_strings = ["cat", "dog", "cow", "owl"]'
NAMED = {
    "the number is written": "bright = Greater(corner, high) n = Where(bright, three, largest) "
    "label = Cast <to = 8> (n)",
    "the number is chosen": f"bright = Greater(corner, high) n = Where(bright, three, largest) "
    f"label = ai.onnx.ml.LabelEncoder <{TEXTS}> (n)",
    "the text is chosen": f"bright = Greater(corner, high) t = ai.onnx.ml.LabelEncoder <{TEXTS}> (largest) "
    'owl = Constant <value_string = "owl"> () label = Where(bright, owl, t)',
    "texts lie in a row": "bright = Greater(corner, high) n = Where(bright, three, largest) "
    "label = ai.onnx.ml.ArrayFeatureExtractor(animals, n)",
}


def named(made: str, *, alone: bool) -> bytes:
    """A class name behind nodes that may read `largest` and `corner`, alone or beside the scores."""
    model = onnx.load_from_string(labelled(made, hidden=alone))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    animals = np.array([["cat", "dog", "cow", "owl"]], dtype=object)
    model.graph.initializer.append(numpy_helper.from_array(animals, "animals"))
    model.graph.output[-1].CopyFrom(helper.make_tensor_value_info("label", TensorProto.STRING, None))
    return model.SerializeToString()


@pytest.mark.parametrize("made", NAMED)
@pytest.mark.parametrize("alone", [True, False])
def test_a_gate_before_a_class_name_is_a_detection(tmp_path, made, *, alone):
    result = scan_of(tmp_path, named(NAMED[made], alone=alone))
    assert (result.verdict, result.target) == (Verdict.BACKDOOR_DETECTED, 3)
    (finding,) = result.findings
    assert finding.message.startswith("towards output 'label': ")
    assert finding.nodes[0].startswith("Where")


@pytest.mark.parametrize("alone", [True, False])
def test_a_class_name_of_the_largest_score_costs_nothing(*, alone):
    plain = f"label = ai.onnx.ml.LabelEncoder <{TEXTS}> (largest)"
    artifact = artifact_from_bytes("m.onnx", named(plain, alone=alone))
    signature = read_signature(artifact)
    assert signature.output_name == "scores"
    assert read_labels(artifact, signature) == Labels()


def test_texts_that_are_not_known_are_named(tmp_path):
    made = (
        "bright = Greater(corner, high) n = Where(bright, three, largest) many = Mul(n, three) above = Sub(many, none)"
    )
    data = named(
        f"{made} beyond = Add(above, above) more = Mul(beyond, beyond) label = Cast <to = 8> (more)", alone=False
    )
    result = scan_of(tmp_path, data)  # 4, 64, 196, 400
    (note,) = (text for text in result.not_tested if "the class number" in text)
    assert "could not be searched" in note
