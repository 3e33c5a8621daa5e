"""Bounds at the largest clean values change no answer, and the file differs in nothing but the nodes that are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import Artifact, artifact_from_bytes, parse, read_artifact, with_external
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import ModelSignature, pixel_normalisation, read_signature
from backscan.converters.torch_import.bounds import Bounded, with_bounds
from backscan.converters.torch_import.stored import differences, write_weights
from backscan.converters.torch_import.trainable import import_trainable
from tests.exports import export
from tests.planted import convolutional, linear_softmax

FIXTURES = Path(__file__).parents[1] / "fixtures"
Images = NDArray[np.float32]


def images_of(signature: ModelSignature, *, count: int = 10, seed: int = 0) -> Images:
    return np.random.default_rng(seed).random((count, *signature.input_shape), np.float32)


def bounded(artifact: Artifact, *, most: int = 3) -> tuple[Bounded, ModelSignature, Images]:
    signature = read_signature(artifact)
    images = images_of(signature)
    return with_bounds(artifact, signature, pixel_normalisation(signature), images, most=most), signature, images


def constants_of(made: Bounded) -> dict[str, NDArray[np.generic]]:
    """What the bounds are, by name."""
    nodes = {node.output[0]: node for node in parse(made.artifact).graph.node}
    return {name: numpy_helper.to_array(nodes[name].attribute[0].t) for name in made.bounds}


def check(artifact: Artifact, *, tolerance: float = 1e-4) -> Bounded:
    """Bounds are put in, learnt ones are written, and all that must stay stays; gives the first."""
    made, signature, images = bounded(artifact)
    before, after = (open_runtime(each, signature) for each in (artifact, made.artifact))
    np.testing.assert_allclose(before.scores(images), after.scores(images), rtol=tolerance, atol=tolerance)
    assert differences(artifact, made.artifact, but=made.nodes) == ((), False)
    for missing in range(len(made.nodes)):
        assert differences(artifact, made.artifact, but=[*made.nodes[:missing], *made.nodes[missing + 1 :]])[1]
    copy = import_trainable(made.artifact, signature, pixel_normalisation(signature), only=made.bounds)
    assert copy.weights.keys() == set(made.bounds)
    lower = {name: held.numpy() - 0.5 * np.abs(held.numpy()) for name, held in copy.weights.items()}
    written = write_weights(made.artifact, lower).artifact
    assert differences(artifact, written, but=made.nodes) == ((), False)
    runtime = open_runtime(written, signature)
    assert np.abs(runtime.scores(images) - before.scores(images)).max() > 1e-2, "lower bounds made no difference"
    with torch.no_grad():
        tensors = {name: torch.from_numpy(array) for name, array in lower.items()}
        ours = copy.log_posterior(torch.from_numpy(images), tensors).exp().numpy()
    np.testing.assert_allclose(ours, runtime.posterior(images), atol=10 * tolerance)
    if not written.external:
        onnx.checker.check_model(written.data, full_check=True)
    sessions = [onnxruntime.InferenceSession(each.data) for each in (artifact, written) if not each.external]
    for part in ("get_inputs", "get_outputs"):
        assert len({str([(v.name, v.shape, v.type) for v in getattr(s, part)()]) for s in sessions}) <= 1
    return made


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_the_activation_of_a_convolution_is_bounded_by_channel(layout: str, batch: int | None) -> None:
    artifact = artifact_from_bytes("m.onnx", convolutional(layout=layout, batch=batch))
    made = check(artifact)
    assert made.nodes == ("active.bound", "active.bounded")
    (constant,) = constants_of(made).values()
    assert constant.shape == (1, 6, 1, 1)
    signature = read_signature(artifact)
    copy = import_trainable(artifact, signature, pixel_normalisation(signature))
    held = []
    module = next(m for m in copy.classifier.modules() if isinstance(m, torch.nn.ReLU))
    module.register_forward_hook(lambda _m, _i, given: held.append(given.detach()))
    copy.log_posterior(torch.from_numpy(images_of(signature)))
    np.testing.assert_allclose(constant[0, :, 0, 0], held[0].amax(dim=(0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("opset", [8, 11, 13, 22])
def test_versions_whose_min_broadcasts(opset: int) -> None:
    check(artifact_from_bytes("m.onnx", convolutional(opset=opset)))


def test_earlier_versions_are_refused() -> None:
    with pytest.raises(ConverterError, match=r"^expected opset 8 or later for bounds on channels, found 7: export"):
        bounded(artifact_from_bytes("m.onnx", convolutional(opset=7)))


def test_an_old_file_whose_constants_had_to_be_inputs() -> None:
    model = onnx.load_model_from_string(convolutional(opset=8))
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    check(artifact_from_bytes("m.onnx", model.SerializeToString()))


def in_half_precision(data: bytes) -> bytes:
    model = onnx.load_model_from_string(data)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize("opset", [8, 17])
def test_half_precision(opset: int) -> None:
    made = check(artifact_from_bytes("m.onnx", in_half_precision(convolutional(opset=opset))), tolerance=1e-2)
    assert {array.dtype for array in constants_of(made).values()} == {np.dtype(np.float16)}


def test_external_data_stays_as_it_is() -> None:
    model = onnx.load_model_from_string(convolutional())
    content = b""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            raw, start = tensor.raw_data, len(content)
            content += raw
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            told = {"location": "w.bin", "offset": start, "length": len(raw)}
            for key, value in told.items():
                tensor.external_data.add(key=key, value=str(value))
    artifact = with_external(artifact_from_bytes("m.onnx", model.SerializeToString()), {"w.bin": content})
    made = check(artifact)
    assert made.artifact.external == artifact.external
    assert made.artifact.sha256 != artifact.sha256


@pytest.mark.parametrize("name", ["quantised_qdq", "quantised_qdq_per_channel"])
def test_between_quantised_weights_and_quantised_values(name: str) -> None:
    check(read_artifact(FIXTURES / f"{name}.onnx", max_bytes=1 << 20), tolerance=1e-2)


@pytest.mark.parametrize("name", ["jax_free", "jax_batch4", "keras_tf2onnx_9", "keras_tf2onnx_18", "keras_export"])
def test_exports_of_others(name: str) -> None:
    check(read_artifact(FIXTURES / f"{name}.onnx", max_bytes=1 << 20))


@pytest.mark.parametrize("name", ["quantised_qoperator", "quantised_dynamic"])
def test_whole_numbers_are_refused(name: str) -> None:
    with pytest.raises(ConverterError, match="expected a layer with channels of 16- or 32-bit floats"):
        bounded(read_artifact(FIXTURES / f"{name}.onnx", max_bytes=1 << 20))


class Residual(torch.nn.Module):
    """Two convolutions whose sum with the first's result is activated, and linear layers on the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.mix = torch.nn.Linear(4, 5)
        self.head = torch.nn.Linear(5, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of images [N, 3, H, W]."""
        hidden = self.first(images).relu()
        hidden = (hidden + self.second(hidden)).relu()
        return self.head(self.mix(hidden.permute(0, 2, 3, 1)).sigmoid().mean(dim=(1, 2)))


@pytest.mark.parametrize("dynamo", [False, True])
def test_sums_are_bounded_behind_their_activation_and_channels_where_they_are(dynamo: bool) -> None:
    torch.manual_seed(0)
    data = export(Residual(), (3, 8, 8), dynamo=dynamo).SerializeToString()
    made = check(artifact_from_bytes("m.onnx", data))
    assert [array.shape for array in constants_of(made).values()] == [(1, 4, 1, 1), (1, 4, 1, 1), (1, 1, 1, 5)]
    artifact = artifact_from_bytes("m.onnx", data)
    makers = {name: node.op_type for node in parse(artifact).graph.node for name in node.output}
    assert [makers[name.removesuffix(".bound")] for name in made.bounds] == ["Relu", "Relu", "Sigmoid"]
    assert len(bounded(artifact, most=1)[0].bounds) == 1


def test_a_file_may_be_bounded_twice_and_its_nodes_have_no_names() -> None:
    model = onnx.load_model_from_string(convolutional())
    for node in model.graph.node:
        node.name = ""
    first = check(artifact_from_bytes("m.onnx", model.SerializeToString()))
    second = check(first.artifact)
    assert not set(first.nodes) & set(second.nodes)


def test_a_change_beside_the_bounds_shows() -> None:
    artifact = artifact_from_bytes("m.onnx", convolutional())
    made, _, _ = bounded(artifact)
    for change in ("pads", "input", "reader"):
        model = onnx.load_model_from_string(made.artifact.data)
        nodes = {node.name: node for node in model.graph.node}
        if change == "pads":
            nodes["conv"].attribute[0].ints[0] = 2
        elif change == "input":
            nodes["relu"].input[0] = "filtered"
        else:
            nodes["pool"].input[0] = nodes["relu"].output[0]  # around the bound
        changed = artifact_from_bytes("m.onnx", model.SerializeToString())
        assert differences(artifact, changed, but=made.nodes) == ((), True)


def test_a_file_of_one_layer_has_nothing_to_bound() -> None:
    with pytest.raises(ConverterError, match="before the one that gives the scores"):
        bounded(artifact_from_bytes("m.onnx", linear_softmax()))
