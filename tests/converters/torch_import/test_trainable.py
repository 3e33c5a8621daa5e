"""Weights trained in the copy are the weights of the file: written back, the file gives what the copy gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import Artifact, artifact_from_bytes, read_artifact, with_external
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import pixel_normalisation, read_signature
from backscan.converters.torch_import.stored import differences, stored_names, write_weights
from backscan.converters.torch_import.trainable import TrainableClassifier, import_trainable
from tests.exports import export
from tests.planted import convolutional, external_weight, linear_softmax

FIXTURES = Path(__file__).parents[1] / "fixtures"
ALL_OF_CONVOLUTIONAL = {"kernel", "gain", "shift", "matrix", "bias"}


def trainable(artifact: Artifact) -> TrainableClassifier:
    signature = read_signature(artifact)
    return import_trainable(artifact, signature, pixel_normalisation(signature))


def moved(copy: TrainableClassifier, *, by: float = 0.2) -> dict[str, np.ndarray]:
    """Every weight changed by a factor of its own."""
    rng = np.random.default_rng(0)
    return {
        name: (held.numpy() * rng.uniform(1 - by, 1 + by, held.shape)).astype(np.float32)
        for name, held in sorted(copy.weights.items())
    }


def gap(artifact: Artifact, *, by: float = 0.2) -> tuple[float, tuple[str, ...]]:
    """Largest difference of log-posteriors between the copy with other weights and the file they were written to."""
    signature, copy = read_signature(artifact), trainable(artifact)
    weights = moved(copy, by=by)
    written = write_weights(artifact, weights)
    images = np.random.default_rng(1).random((8, *signature.input_shape), np.float32)
    with torch.no_grad():
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        ours = copy.log_posterior(torch.from_numpy(images), tensors).numpy()
        before = copy.log_posterior(torch.from_numpy(images)).numpy()
    theirs = np.log(np.maximum(open_runtime(written.artifact, signature).posterior(images), 1e-30))
    ours, before = np.maximum(ours, np.log(1e-30)), np.maximum(before, np.log(1e-30))
    assert np.abs(before - theirs).max() > 1e-2, "the weights made no difference"
    return float(np.abs(ours - theirs).max()), written.tensors


def differing(before: bytes, after: bytes) -> set[str]:
    """Names of the stored tensors that differ; all else has to be the same."""
    models = [onnx.load_model_from_string(data) for data in (before, after)]
    tensors = [
        {t.name: t for t in model.graph.initializer}
        | {n.output[0]: a.t for n in model.graph.node for a in n.attribute if a.HasField("t")}
        for model in models
    ]
    names = {name for name in tensors[0] if tensors[0][name] != tensors[1][name]}
    for held in tensors:
        for name in names:
            for field in ("raw_data", "float_data", "int32_data"):
                held[name].ClearField(field)
    assert models[0] == models[1]
    return names


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_convolution_with_its_normalisation(layout: str, batch: int | None) -> None:
    data = convolutional(layout=layout, batch=batch)
    artifact = artifact_from_bytes("m.onnx", data)
    difference, tensors = gap(artifact)
    assert difference < 1e-3
    assert set(tensors) == ALL_OF_CONVOLUTIONAL


def test_nothing_but_the_named_tensors_differs() -> None:
    data = convolutional()
    copy = trainable(artifact_from_bytes("m.onnx", data))
    written = write_weights(artifact_from_bytes("m.onnx", data), {"matrix": moved(copy)["matrix"]})
    assert differing(data, written.artifact.data) == {"matrix"} == set(written.tensors)
    onnx.checker.check_model(written.artifact.data)


def test_weights_that_stay_leave_the_file_as_it_is() -> None:
    artifact = artifact_from_bytes("m.onnx", convolutional())
    weights = {name: held.numpy() for name, held in trainable(artifact).weights.items()}
    written = write_weights(artifact, weights)
    assert written.tensors == ()
    assert onnx.load_model_from_string(written.artifact.data) == onnx.load_model_from_string(artifact.data)


def test_external_data_stays_external() -> None:
    whole = artifact_from_bytes("m.onnx", linear_softmax(external="weight.bin"))
    artifact = with_external(whole, external_weight())
    difference, tensors = gap(artifact)
    assert difference < 1e-3
    assert set(tensors) == {"matrix", "bias"}
    written = write_weights(artifact, {"matrix": moved(trainable(artifact))["matrix"]})
    assert written.artifact.data == onnx.load_model_from_string(artifact.data).SerializeToString()
    assert written.artifact.external != artifact.external
    assert written.artifact.sha256 != artifact.sha256


@pytest.mark.parametrize("raw", [True, False])
def test_half_precision(raw: bool) -> None:
    model = onnx.load_model_from_string(convolutional())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float16)
            half = numpy_helper.from_array(array, tensor.name)
            if not raw:
                half.ClearField("raw_data")
                half.int32_data.extend(array.view(np.uint16).reshape(-1).tolist())
            tensor.CopyFrom(half)
    difference, tensors = gap(artifact_from_bytes("m.onnx", model.SerializeToString()))
    assert difference < 0.1
    assert set(tensors) == ALL_OF_CONVOLUTIONAL


@pytest.mark.parametrize("name", ["quantised_qdq", "quantised_qdq_per_channel"])
def test_quantised_weights_are_written_through_their_scales(name: str) -> None:
    artifact = read_artifact(FIXTURES / f"{name}.onnx", max_bytes=1 << 20)
    difference, tensors = gap(artifact)
    assert difference < 0.3  # of steps of 1/127 of the largest weight
    data = write_weights(artifact, moved(trainable(artifact))).artifact.data
    assert differing(artifact.data, data) == set(tensors)
    kept = {tensor.name: tensor.data_type for tensor in onnx.load_model_from_string(data).graph.initializer}
    assert {kept[each] for each in tensors} <= {onnx.TensorProto.INT8, onnx.TensorProto.INT32}


@pytest.mark.parametrize("name", ["jax_free", "jax_batch4", "keras_tf2onnx_9", "keras_tf2onnx_18", "sklearn_mlp"])
def test_exports_of_others(name: str) -> None:
    difference, tensors = gap(read_artifact(FIXTURES / f"{name}.onnx", max_bytes=1 << 20))
    assert difference < 1e-3
    assert tensors


@pytest.mark.parametrize("dynamo", [False, True])
def test_one_kernel_used_twice_is_one_weight(dynamo: bool) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.head = torch.nn.Linear(3, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            hidden = self.first(self.first(images).relu()).relu()
            return self.head(hidden.mean(dim=(2, 3)))

    torch.manual_seed(0)
    model = export(Twice(), (3, 8, 8), dynamo=dynamo)
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    difference, tensors = gap(artifact)
    assert difference < 1e-3
    assert len(tensors) == 4


def test_constants_in_nodes_are_written() -> None:
    model = onnx.load_model_from_string(convolutional())
    for tensor in list(model.graph.initializer):
        if tensor.name in {"matrix", "bias"}:
            listed = {"value_floats": numpy_helper.to_array(tensor).tolist()}
            attribute = {"value": tensor} if tensor.name == "matrix" else listed
            constant = onnx.helper.make_node("Constant", [], [tensor.name], name=tensor.name, **attribute)
            model.graph.node.insert(0, constant)
            model.graph.initializer.remove(tensor)
    difference, tensors = gap(artifact_from_bytes("m.onnx", model.SerializeToString()))
    assert difference < 1e-3
    assert set(tensors) == ALL_OF_CONVOLUTIONAL


def test_a_weight_that_is_computed_with_first_keeps_still() -> None:
    """What the copy holds is then not what is stored, so that it could not be written back."""
    model = onnx.load_model_from_string(convolutional())
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["kernel", "kernel"], ["squared"], name="square"))
    next(each for each in model.graph.node if each.name == node.name).input[1] = "squared"
    copy = trainable(artifact_from_bytes("m.onnx", model.SerializeToString()))
    assert set(copy.weights) == ALL_OF_CONVOLUTIONAL - {"kernel"}


def test_rows_of_a_torch_tensor_are_found_where_they_are_stored() -> None:
    copy = trainable(read_artifact(FIXTURES / "keras_tf2onnx_18.onnx", max_bytes=1 << 20))
    name = next(name for name, held in copy.weights.items() if held.dim() == 4)
    (key,) = copy.tensors_of(name)
    layer = next(each for each in copy.layers() if key in each.tensors)
    assert layer.tensors[0] == key
    stored, mask = copy.stored_mask(key, [1])
    assert stored == name
    channels = copy.classifier.get_parameter(key) if "weight" in key else copy.classifier.get_buffer(key)
    assert int(mask.sum()) * len(channels) == mask.numel()


def test_whole_number_products_are_refused_in_one_sentence() -> None:
    artifact = read_artifact(FIXTURES / "quantised_qoperator.onnx", max_bytes=1 << 20)
    with pytest.raises(ConverterError, match="before it was quantised"):
        trainable(artifact)


def test_names_and_shapes_that_the_file_lacks_are_refused() -> None:
    artifact = artifact_from_bytes("m.onnx", convolutional())
    assert "kernel" in stored_names(artifact)
    for name, shape in (("nothing", (2,)), ("bias", (5,))):
        with pytest.raises(ConverterError, match="expected a stored tensor"):
            write_weights(artifact, {name: np.zeros(shape, np.float32)})


def gated(threshold: float, *, constant: str = "", read_by: str = "gate") -> Artifact:
    """Scores with a gate, which one node may read from a constant instead."""
    arrays = {"threshold": np.array([threshold], np.float32), "other": np.ones(1, np.float32)}
    arrays |= {constant: np.zeros(1, np.float32)} if constant else {}
    given = {"gate": ["image", "threshold"], "scale": ["open", "other"]}
    if constant:
        given[read_by][1] = constant
    nodes = [
        helper.make_node("Sub", given["gate"], ["open"], name="gate"),
        helper.make_node("Mul", given["scale"], ["scores"], name="scale"),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("image", "scores")]
    graph = helper.make_graph(
        nodes, "gated", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in arrays.items()]
    )
    return artifact_from_bytes("m.onnx", helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize(
    ("after", "nodes", "elsewhere"),
    [
        (gated(0.5), (), False),
        (gated(0.5, constant="held"), (), True),
        (gated(0.5, constant="held"), ("gate",), False),
        (gated(0.5, constant="held"), ("scale",), True),
        (gated(0.5, constant="held", read_by="scale"), ("gate",), True),
    ],
)
def test_nodes_that_are_named_may_change_with_their_constants_and_nothing_else(
    after: Artifact, nodes: tuple[str, ...], elsewhere: bool
) -> None:
    assert differences(gated(0.5), after, but=nodes) == ((), elsewhere)
    assert differences(gated(0.6), after, but=nodes) == (("threshold",), elsewhere)
