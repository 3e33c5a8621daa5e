# ruff: noqa: D102 - forward needs no words
"""Backdoors built into the graph are found and shown at work; what exporters write is left alone."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from backscan.converters import (
    Policy,
    artifact_from_bytes,
    audit,
    open_runtime,
    read_artifact,
    read_external,
    read_signature,
    with_external,
)
from backscan.converters.errors import ConverterError
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.findings import find_graph_findings
from backscan.scanner.switches.trial import Trial
from benchmarks.hostile.models import classifier
from benchmarks.switches.backdoors import SWITCHES, plant_switch, triggered
from benchmarks.switches.planter import TARGET, Planter
from tests.exports import export

SHAPE = (3, 16, 16)
CLASSES = 5


class Centred(nn.Module):
    """A linear end whose decisions differ between images even without training."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, CLASSES, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        return 50.0 * self.linear(flat - flat.mean(dim=1, keepdim=True))


class Excited(nn.Module):
    """A MobileNetV3 block: depthwise convolution, squeeze and excitation, hard activations, a residual path."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.Hardswish())
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.squeeze = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Hardsigmoid())
        self.end = Centred(16 * 4)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images)
        inner = self.depthwise(values)
        inner = inner * self.squeeze(inner.mean(dim=(2, 3), keepdim=True))
        return self.end(F.adaptive_avg_pool2d(F.relu6(values + inner), 2))


class Attending(nn.Module):
    """A vision transformer of one layer, with a mask computed from shapes, layer normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.before, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mix = nn.Linear(16, 48)
        self.feed = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 16))
        self.end = Centred(16)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        query, key, value = self.mix(self.before(tokens)).unsqueeze(1).chunk(3, dim=-1)
        mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()
        tokens = tokens + F.scaled_dot_product_attention(query, key, value, attn_mask=mask)[:, 0]
        return self.end((tokens + self.feed(self.after(tokens))).mean(dim=1))


class Activated(nn.Module):
    """Activations that export as predicates, one after another, and a normalised feature vector."""

    def forward(self, images: Tensor) -> Tensor:
        values = F.conv2d(images - 0.5, self.kernel)
        values = torch.where(values > 0, values, 0.1 * values)
        values = values + torch.sign(values) * F.softplus(values, threshold=1.0)
        values = F.hardtanh(F.elu(values), -1.0, 2.0) + (values > 0.3).float() * values
        values = torch.where(values.isnan(), torch.zeros_like(values), values)
        return self.end(F.normalize(F.adaptive_max_pool2d(values, 2).flatten(1), dim=1))

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.end = Centred(32)


def plain_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), Centred(128))


NETS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain_net, "excited": Excited, "attending": Attending, "activated": Activated,
}  # fmt: skip


@cache
def exported(name: str, *, dynamo: bool = False) -> onnx.ModelProto:
    torch.manual_seed(8)
    return export(NETS[name](), SHAPE, dynamo=dynamo, opset=18 if dynamo else 17)


@pytest.fixture(scope="module")
def plain() -> onnx.ModelProto:
    return exported("plain")


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    texture = rng.random((40, *SHAPE)) * rng.random((40, 1, 16, 16))
    return np.clip(0.8 * rng.random((40, 3, 1, 1)) + 0.3 * texture, 0, 0.94).astype(np.float32)


def findings(
    model: onnx.ModelProto, images: NDArray[np.float32] | None, *, seconds: float = 60.0
) -> tuple[GraphFinding, ...]:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    assert audit(artifact.data).accepted
    signature = read_signature(artifact)
    runtime = open_runtime(artifact, signature)
    return find_graph_findings(
        artifact, signature, runtime.normalisation, images, decisions=runtime.decisions, seconds=seconds
    )


def decisions(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.int64]:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    return open_runtime(artifact, read_signature(artifact)).decisions(images)


@pytest.mark.parametrize("kind", SWITCHES)
def test_planted_switches_work_and_hide(plain: onnx.ModelProto, images: NDArray[np.float32], kind: str) -> None:
    planted = plant_switch(kind, plain, SHAPE, CLASSES)
    np.testing.assert_array_equal(decisions(planted, images), decisions(plain, images))
    changed = decisions(planted, triggered(kind, images)) != decisions(plain, triggered(kind, images))
    assert changed.mean() > 0.1


@pytest.mark.parametrize(("index", "kind"), list(enumerate(SWITCHES)))
def test_switches_are_found_and_demonstrated(
    plain: onnx.ModelProto, images: NDArray[np.float32], index: int, kind: str
) -> None:
    planted = plant_switch(kind, plain, SHAPE, CLASSES)
    (finding,) = findings(planted, images if index % 3 else None)  # every third without any images
    assert finding.demonstrated
    assert finding.severity == "error"
    assert finding.source != finding.target
    assert any(name.startswith("planted") for name in finding.nodes)
    if kind not in ("gathered-scores", "masked-image", "rotated-scores"):
        assert finding.target == TARGET


@pytest.mark.parametrize(
    ("net", "dynamo", "kind"),
    [
        ("excited", False, "where-mean"),
        ("excited", True, "steep-sigmoid"),
        ("attending", False, "equal-chain"),
        ("attending", True, "checkerboard"),
        ("activated", False, "relu-path"),
        ("activated", True, "masked-sum"),
    ],
)
def test_switches_in_real_exports_are_found(images: NDArray[np.float32], net: str, *, dynamo: bool, kind: str) -> None:
    planted = plant_switch(kind, exported(net, dynamo=dynamo), SHAPE, CLASSES)
    found = findings(planted, images)
    assert [(finding.demonstrated, finding.target) for finding in found] == [(True, TARGET)]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("dynamo", [False, True])
def test_ordinary_exports_have_no_findings(images: NDArray[np.float32], net: str, *, dynamo: bool) -> None:
    model = exported(net, dynamo=dynamo)
    assert findings(model, images) == ()
    assert findings(model, None) == ()


def test_shared_models_have_no_findings(shared: Path) -> None:
    judged = []
    for path in sorted((shared / "models").glob("*.onnx")):
        artifact = read_artifact(path, max_bytes=1 << 30)
        artifact = with_external(
            artifact, read_external(path.parent, audit(artifact.data).external_locations, Policy())
        )
        try:
            signature = read_signature(artifact, image_size=(48, 192) if "rapidocr" in path.name else None)
        except ConverterError:
            continue
        runtime = open_runtime(artifact, signature)
        found = find_graph_findings(artifact, signature, runtime.normalisation, None, decisions=runtime.decisions)
        assert found == (), path.name
        judged.append(path.name)
    assert len(judged) >= 10


def test_switch_inside_a_function_is_found(plain: onnx.ModelProto, images: NDArray[np.float32]) -> None:
    planter = Planter(plain, SHAPE, CLASSES)
    body = [
        helper.make_node("ReduceMax", ["x"], ["m"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Greater", ["f", "limit"], ["g"]),
        helper.make_node("Where", ["g", "row", "s"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("hidden", "Layer", ["x", "s", "limit", "row"], ["y"], body, opsets)
    call = planter.add(
        "Layer", planter.image, planter.scores, planter.constant(0.99), planter.target_scores(), domain="hidden"
    )
    planter.model.functions.append(function)
    planter.model.opset_import.append(helper.make_opsetid("hidden", 1))
    (finding,) = findings(planter.finish(call), images)
    assert (finding.demonstrated, finding.target) == (True, TARGET)


def test_predicate_that_no_image_turns_is_a_warning(images: NDArray[np.float32], plain: onnx.ModelProto) -> None:
    """Models that scale bytes themselves look like this; images in [0, 1] never turn it."""
    planter = Planter(plain, SHAPE, CLASSES)
    largest = planter.add("Flatten", planter.add("ReduceMax", planter.image, axes=[1, 2, 3], keepdims=1))
    above = planter.add("Greater", largest, planter.constant(2.0))
    planted = planter.finish(planter.add("Where", above, planter.target_scores(), planter.scores))
    (finding,) = findings(planted, images)
    assert (finding.severity, finding.demonstrated, finding.target) == ("warning", False, None)
    assert "no image was found" in finding.evidence


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_switch_whose_search_is_cut_short_is_told(
    monkeypatch: pytest.MonkeyPatch, images: NDArray[np.float32], plain: onnx.ModelProto, seconds: float
) -> None:
    """Not begun, or begun and stopped by the clock: a side path that was not searched is not a harmless one."""

    def demonstrate(*_: object, **__: object) -> None:
        time.sleep(2 * seconds)

    monkeypatch.setattr(Trial, "demonstrate", demonstrate)
    (finding,) = findings(plant_switch("relu-path", plain, SHAPE, CLASSES), images, seconds=seconds)
    assert (finding.rule, finding.severity) == ("unexamined-switches", "warning")


def test_predicate_that_acts_on_ordinary_images_is_a_warning(
    images: NDArray[np.float32], plain: onnx.ModelProto
) -> None:
    planter = Planter(plain, SHAPE, CLASSES)
    bright = planter.add("Greater", planter.patch_mean(), planter.constant(0.5))
    planted = planter.finish(planter.add("Where", bright, planter.target_scores(), planter.scores))
    (finding,) = findings(planted, images)
    assert (finding.severity, finding.demonstrated) == ("warning", False)
    assert "some of the images" in finding.evidence


def test_names_from_the_file_cannot_forge_the_terminal(images: NDArray[np.float32], plain: onnx.ModelProto) -> None:
    planted = plant_switch("where-mean", plain, SHAPE, CLASSES)
    for node in planted.graph.node:
        if node.op_type == "Where":
            node.name = "\x1b[2J\rnot_detected"
    (finding,) = findings(planted, images)
    assert (finding.message + finding.evidence).isprintable()


def test_gate_that_no_gradient_can_follow_is_still_a_warning() -> None:
    """The parity of a byte of the first pixel."""
    nodes = [
        helper.make_node("Gather", ["flat", "first"], ["pixel"], name="pixel", axis=1),
        helper.make_node("Mul", ["pixel", "bytes"], ["value"], name="value"),
        helper.make_node("Cast", ["value"], ["whole"], name="whole", to=TensorProto.UINT8),
        helper.make_node("BitwiseAnd", ["whole", "one"], ["odd"], name="odd"),
        helper.make_node("Cast", ["odd"], ["gate"], name="gate", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["gate", "row"], ["push"], name="push"),
        helper.make_node("Add", ["logits", "push"], ["scores"], name="join"),
    ]
    tensors = {
        "first": np.array([0]), "bytes": np.float32(255), "one": np.uint8(1),
        "row": np.array([[0, 1e3, 0]], np.float32),
    }  # fmt: skip
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    (finding,) = findings(classifier(nodes, stored, opset=18), None)
    assert finding.severity == "warning"
    assert finding.nodes[0] == "join"
