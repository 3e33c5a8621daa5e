"""LSTM, GRU and RNN over sequences; onnxruntime is the oracle, and the standard where images come first."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from backscan.converters.errors import ConversionError
from benchmarks.exporters.backend_cases import all_cases, statements
from tests.converters.operators.single_node import Array, assert_same, imported, in_onnxruntime, in_torch, model_of

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, IMAGES, FEATURES, HIDDEN = 5, 3, 4, 2
WAYS = ("forward", "reverse", "bidirectional")
SHAPES = {"RNN": ["x", "w", "r", "b", "l", "h"], "GRU": ["x", "w", "r", "b", "l", "h"]}
SHAPES["LSTM"] = [*SHAPES["GRU"], "c", "p"]


def tensors(operator: str, direction: str = "forward") -> dict[str, Array]:
    """Every input of a node, by the letters of `SHAPES`."""
    draw, gates, ways = np.random.default_rng(0), GATES[operator] * HIDDEN, 2 if direction == "bidirectional" else 1
    shapes = {
        "x": (STEPS, IMAGES, FEATURES),
        "w": (ways, gates, FEATURES),
        "r": (ways, gates, HIDDEN),
        "b": (ways, 2 * gates),
        "h": (ways, IMAGES, HIDDEN),
        "c": (ways, IMAGES, HIDDEN),
        "p": (ways, 3 * HIDDEN),
    }
    found = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"l": np.array([STEPS, 2, 1], np.int32)}


def node(operator: str, given: str, direction: str = "forward", **attributes: Any) -> tuple[Any, dict[str, Array]]:
    """A model of one node with the inputs named by letters, and what the caller feeds."""
    held = tensors(operator, direction)
    names = [name if name in given else "" for name in SHAPES[operator]]
    live, constants = {"x": held["x"]}, {name: held[name] for name in given if name != "x"}
    attributes |= {"hidden_size": HIDDEN, "direction": direction}
    outputs = 3 if operator == "LSTM" else 2
    return model_of(operator, names, live, constants, outputs=outputs, **attributes), live


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("given", ["xwr", "xwrb", "xwrbh", "xwrbl", "xwrl", "xwrlh"])
@pytest.mark.parametrize("operator", GATES)
def test_directions_and_inputs(operator: str, given: str, direction: str) -> None:
    assert_same(*node(operator, given, direction))


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("attributes", [{}, {"clip": 0.3}, {"input_forget": 1}])
@pytest.mark.parametrize("given", ["xwrbhcp", "xwrbhclp", "xwrc"])
def test_memory_and_peepholes(given: str, attributes: dict[str, Any], direction: str) -> None:
    assert_same(*node("LSTM", given, direction, **attributes))


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize(
    "attributes", [{"linear_before_reset": 1}, {"linear_before_reset": 1, "clip": 0.5}, {"clip": 0.5}]
)
@pytest.mark.parametrize("given", ["xwr", "xwrbhl"])
def test_reset_gates(given: str, attributes: dict[str, Any], direction: str) -> None:
    assert_same(*node("GRU", given, direction, **attributes))


@pytest.mark.parametrize(
    ("names", "alpha", "beta"),
    [
        (["Relu"], [], []),
        (["LeakyRelu"], [0.3], []),
        (["LeakyRelu"], [], []),
        (["Affine"], [0.5], [0.1]),
        (["ThresholdedRelu"], [0.4], []),
        (["ScaledTanh"], [0.7], [1.3]),
        (["HardSigmoid"], [0.3], [0.4]),
        (["HardSigmoid"], [], []),
        (["Elu"], [0.6], []),
        (["Softsign"], [], []),
        (["Softplus"], [], []),
        (["Sigmoid"], [], []),
    ],
)
def test_activations(names: list[str], alpha: list[float], beta: list[float]) -> None:
    given = {"activation_alpha": alpha} if alpha else {}
    given |= {"activation_beta": beta} if beta else {}
    assert_same(*node("RNN", "xwrb", activations=names, clip=0.8, **given))


def test_parameters_of_activations_go_to_those_that_have_them() -> None:
    names = ["HardSigmoid", "Tanh", "LeakyRelu", "Sigmoid", "ScaledTanh", "Elu"]
    given: dict[str, Any] = {"activation_alpha": [0.3, 0.05, 0.8, 0.7], "activation_beta": [0.4, 1.2]}
    assert_same(*node("LSTM", "xwrb", "bidirectional", activations=names, **given))


@pytest.mark.parametrize("name", ["test_lstm_batchwise", "test_gru_batchwise", "test_simple_rnn_batchwise"])
def test_images_first_as_the_standard_has_it(name: str) -> None:
    (case,) = (case for case in all_cases(tuple(GATES)) if case.name == name)  # onnxruntime has no layout 1
    (stated,) = (item for item in statements(case, 22) if item.opset == 22)
    module = imported(stated.model)
    found = module(*[torch.from_numpy(value) for value in stated.inputs.values()])
    for mine, expected in zip(found, case.outputs, strict=True):
        np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("operator", GATES)
def test_images_first_is_the_same_with_the_axes_exchanged(operator: str, direction: str) -> None:
    model, live = node(operator, "xwrbh", direction)
    turned = onnx.ModelProto.FromString(model.SerializeToString())
    turned.graph.node[0].attribute.append(onnx.helper.make_attribute("layout", 1))
    for tensor in turned.graph.initializer:
        if tensor.name == "h":
            first = onnx.numpy_helper.to_array(tensor).transpose(1, 0, 2)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(first), "h"))
    del turned.graph.input[0].type.tensor_type.shape.dim[:]
    plain = in_onnxruntime(model, live)
    found = in_torch(turned, {"x": np.ascontiguousarray(live["x"].transpose(1, 0, 2))})
    np.testing.assert_allclose(found[0], plain[0].transpose(2, 0, 1, 3), atol=1e-6)
    np.testing.assert_allclose(found[1], plain[1].transpose(1, 0, 2), atol=1e-6)


@pytest.mark.parametrize("outputs", [["y"], ["", "last"], ["y", "", "cell"]])
def test_only_some_outputs(outputs: list[str]) -> None:
    model, live = node("LSTM", "xwrb")
    del model.graph.node[0].output[:], model.graph.output[:]
    model.graph.node[0].output.extend(outputs)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs if name)
    assert_same(model, live)


@pytest.mark.parametrize("operator", GATES)
def test_gradient_is_that_of_central_differences(operator: str) -> None:
    model, live = node(operator, "xwrb", "bidirectional")
    module = imported(model).double()
    inputs = torch.from_numpy(live["x"]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x)[0], inputs, fast_mode=True)


@pytest.mark.parametrize("operator", GATES)
def test_vectorising_over_single_images_gives_the_batch(operator: str) -> None:
    model, live = node(operator, "xwrb", "bidirectional")
    module, batch = imported(model), torch.from_numpy(live["x"]).transpose(0, 1)
    together = torch.func.vmap(lambda image: module(image.unsqueeze(1))[0].squeeze(2))(batch)
    torch.testing.assert_close(together, module(batch.transpose(0, 1))[0].permute(2, 0, 1, 3))


@pytest.mark.parametrize(("batch", "time"), [(1, 0), (0, 1)])
def test_reversed_sequences(batch: int, time: int) -> None:
    live = {"x": np.random.default_rng(0).normal(size=(3, 3, 2)).astype(np.float32)}
    lengths = {"l": np.array([3, 1, 2], np.int64)}
    assert_same(model_of("ReverseSequence", ["x", "l"], live, lengths, batch_axis=batch, time_axis=time), live)


@pytest.mark.parametrize(("names", "found"), [(["Tanh", "Swish"], "found 'Swish'"), (["Tanh"], "found 1 in all")])
def test_unknown_activations_are_refused(names: list[str], found: str) -> None:
    model, _ = node("GRU", "xwr", activations=names)
    with pytest.raises(ConversionError, match=found):
        imported(model)
