"""Each rewriting rule: it does what it says, and onnxruntime gives the same before and after."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from backscan.converters.errors import ArtifactError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.rewrites import normalise
from backscan.converters.session import noise, open_session, run_session
from backscan.converters.signature.signature import ModelSignature, read_signature
from tests.exports import export

RNG = np.random.default_rng(0)
WEIGHT = numpy_helper.from_array(RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
IMAGE = "float[N,3,8,8] image"


def graph(
    body: str, *, opset: int = 17, image: str = IMAGE, tensors: tuple[onnx.TensorProto, ...] = (WEIGHT,)
) -> bytes:
    """A model from onnx's text form, its output called `scores`."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({image}) => (float[N,K] scores) {{ {body} }}'
    model = parser.parse_model(text)
    model.graph.initializer.extend(tensors)
    return model.SerializeToString()


def rewritten(data: bytes) -> onnx.GraphProto:
    """The normalised graph, after checking that onnxruntime gives the same with it."""
    model = onnx.load_model_from_string(data)
    signature = read_signature(artifact_from_bytes("m", data))
    plain = normalise(model, signature)
    assert model.SerializeToString() == data, "the given model was changed"
    images = noise(signature.model_shape(signature.batch or 4), np.dtype(signature.dtype), seed=7)
    before, after = (run(m, signature, images) for m in (model, plain))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    return plain.graph


def run(model: onnx.ModelProto, signature: ModelSignature, images: np.ndarray) -> np.ndarray:
    session = open_session(model.SerializeToString())
    return run_session(session, {signature.input_name: images})[signature.output_name]


def operators(plain: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in plain.node)


def target(plain: onnx.GraphProto) -> list[int]:
    """The target of the only Reshape."""
    (node,) = (node for node in plain.node if node.op_type == "Reshape")
    tensors = {tensor.name: tensor for tensor in plain.initializer}
    assert not node.attribute
    return numpy_helper.to_array(tensors[node.input[1]]).tolist()


def test_rule_1_inlines_functions() -> None:
    function = helper.make_function(
        "local", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    body = "c = Conv(image, w) p = GlobalAveragePool(c) t = local.Twice(p) scores = Flatten(t)"
    model = onnx.load_model_from_string(graph(body))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    assert "Twice" not in operators(rewritten(model.SerializeToString()))


def test_rule_2_keeps_what_the_output_needs() -> None:
    body = """
        c = Conv(image, w) p = GlobalAveragePool(c) scores = Flatten(p)
        label = ArgMax <axis = 1, keepdims = 0> (scores)
    """
    model = onnx.load_model_from_string(graph(body))
    model.graph.output.append(helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["N"]))
    assert operators(rewritten(model.SerializeToString())) == {"Conv": 1, "GlobalAveragePool": 1, "Flatten": 1}


def test_rule_2_sorts_the_nodes() -> None:
    model = onnx.load_model_from_string(graph("p = GlobalAveragePool(c) c = Conv(image, w) scores = Flatten(p)"))
    signature = read_signature(artifact_from_bytes("m", model.SerializeToString()))
    assert [n.op_type for n in normalise(model, signature).graph.node] == ["Conv", "GlobalAveragePool", "Flatten"]


def test_rule_2_refuses_a_cycle() -> None:
    sound = graph("c = Conv(image, w) p = GlobalAveragePool(c) scores = Flatten(p)")
    signature = read_signature(artifact_from_bytes("m", sound))
    cyclic = onnx.load_model_from_string(graph("a = Add(image, b) b = Relu(a) scores = Flatten(b)"))
    with pytest.raises(ArtifactError, match="depends on its own output"):
        normalise(cyclic, signature)


def test_rule_3_turns_constants_into_initialisers() -> None:
    body = """
        two = Constant <value_float = 2.0> ()
        c = Conv(image, w) d = Pow(c, two) p = GlobalAveragePool(d) scores = Flatten(p)
    """
    plain = rewritten(graph(body))
    assert "Constant" not in operators(plain)
    assert "two" in {tensor.name for tensor in plain.initializer}


def test_rule_4_folds_weights_behind_identity_and_arithmetic() -> None:
    """As torch's legacy exporter writes weights that are equal."""
    body = """
        v = Identity(w) half = Constant <value_float = 0.5> () u = Mul(v, half)
        c = Conv(image, u) p = GlobalAveragePool(c) scores = Flatten(p)
    """
    assert operators(rewritten(graph(body))) == {"Conv": 1, "GlobalAveragePool": 1, "Flatten": 1}


def test_rule_4_folds_dequantised_weights() -> None:
    quantised = numpy_helper.from_array(RNG.integers(-90, 90, (4, 3, 3, 3), dtype=np.int8), "q")
    scale = numpy_helper.from_array(np.array(0.02, np.float32), "s")
    body = "w = DequantizeLinear(q, s) c = Conv(image, w) p = GlobalAveragePool(c) scores = Flatten(p)"
    plain = rewritten(graph(body, tensors=(quantised, scale)))
    assert "DequantizeLinear" not in operators(plain)


def test_rules_4_and_5_settle_a_shape_chain_with_the_batch_inside() -> None:
    """As both of torch's exporters write `x.reshape(x.shape[0], -1)`."""
    body = """
        c = Conv(image, w) s = Shape(c) zero = Constant <value_ints = [0]> () n = Gather(s, zero)
        rest = Constant <value_ints = [-1]> () shape = Concat <axis = 0> (n, rest) scores = Reshape(c, shape)
    """
    plain = rewritten(graph(body))
    assert operators(plain) == {"Conv": 1, "Reshape": 1}
    assert target(plain) == [-1, 4 * 6 * 6]


def test_rule_5_drops_a_harmless_allowzero() -> None:
    """As torch's dynamo exporter writes every reshape."""
    body = """
        c = Conv(image, w) shape = Constant <value_ints = [-1, 144]> ()
        scores = Reshape <allowzero = 1> (c, shape)
    """
    assert target(rewritten(graph(body))) == [-1, 144]


def test_rule_5_writes_copied_sizes_as_numbers() -> None:
    body = "c = Conv(image, w) shape = Constant <value_ints = [0, -1]> () scores = Reshape(c, shape)"
    assert target(rewritten(graph(body))) == [-1, 144]


@pytest.mark.parametrize(("channels", "operator"), [(3, "Relu"), (4, "Abs")])
def test_rule_6_takes_the_branch_of_a_known_condition(channels: int, operator: str) -> None:
    """As torch's scripted models write a test of the number of channels."""
    body = f"""
        c = Conv(image, w) s = Shape <start = 1, end = 2> (image) k = Constant <value_ints = [{channels}]> ()
        same = Equal(s, k) one = Squeeze(same)
        d = If (one) <
            then_branch = yes () => (float[N,4,6,6] r) {{ r = Relu(c) }},
            else_branch = no () => (float[N,4,6,6] a) {{ a = Abs(c) }}
        >
        p = GlobalAveragePool(d) scores = Flatten(p)
    """
    assert operators(rewritten(graph(body))) == {"Conv": 1, operator: 1, "GlobalAveragePool": 1, "Flatten": 1}


def test_rule_6_unrolls_a_loop_of_known_length() -> None:
    body = """
        c = Conv(image, w) p = GlobalAveragePool(c) f = Flatten(p)
        trips = Constant <value_int = 3> () yes = Constant <value = bool {1}> ()
        last, all = Loop (trips, yes, f) <
            body = step (int64 i, bool go, float[N,4] x) => (bool go_on, float[N,4] y, float[N,4] z)
            { go_on = Identity(go) k = Cast <to = 1> (i) d = Add(x, k) y = Mul(d, d) z = Identity(y) }
        >
        t = Transpose <perm = [1, 0, 2]> (all) m = ReduceMax <axes = [1], keepdims = 0> (t) scores = Add(last, m)
    """
    counts = operators(rewritten(graph(body)))
    assert "Loop" not in counts
    assert counts["Mul"] == 3


def test_rule_6_leaves_a_loop_that_the_image_ends() -> None:
    body = """
        c = Conv(image, w) p = GlobalAveragePool(c) f = Flatten(p)
        trips = Constant <value_int = 3> () yes = Constant <value = bool {1}> ()
        scores = Loop (trips, yes, f) <
            body = step (int64 i, bool go, float[N,4] x) => (bool go_on, float[N,4] y)
            {
                y = Add(x, x) s = ReduceSum <keepdims = 0> (y) nine = Constant <value_float = 9.0> ()
                go_on = Less(s, nine)
            }
        >
    """
    assert operators(rewritten(graph(body)))["Loop"] == 1


def test_rule_7_drops_identity_and_dropout() -> None:
    body = """
        i = Identity(image) c = Conv(i, w) d = Dropout(c) e = Identity(d) p = GlobalAveragePool(e)
        f = Flatten(p) scores = Identity(f)
    """
    plain = rewritten(graph(body))
    assert operators(plain) == {"Conv": 1, "GlobalAveragePool": 1, "Flatten": 1, "Identity": 1}
    assert plain.node[-1].output[0] == "scores"


def norm_tensors() -> tuple[onnx.TensorProto, ...]:
    values = {name: RNG.uniform(0.5, 1.5, 4).astype(np.float32) for name in ("g", "b", "m", "v")}
    values["k"] = RNG.normal(size=(1, 4, 1, 1)).astype(np.float32)
    values["one"] = np.array(1.5, np.float32)
    return tuple(numpy_helper.from_array(array, name) for name, array in values.items())


@pytest.mark.parametrize(
    "after",
    [
        "d = BatchNormalization(c, g, b, m, v)",
        "d = BatchNormalization <epsilon = 0.1> (c, g, b, m, v)",
        "e = Mul(c, k) d = Add(k, e)",
        "e = Sub(k, c) d = Div(e, one)",
        "e = Sub(c, one) f = Mul(one, e) d = BatchNormalization(f, g, b, m, v)",
    ],
)
def test_rule_8_folds_into_the_convolution(after: str) -> None:
    body = f"c = Conv(image, w) {after} r = Relu(d) p = GlobalAveragePool(r) scores = Flatten(p)"
    plain = rewritten(graph(body, tensors=(WEIGHT, *norm_tensors())))
    assert operators(plain) == {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Flatten": 1}


@pytest.mark.parametrize(
    "after",
    [
        "e = BatchNormalization(c, g, b, m, v) d = Add(c, e)",  # the unnormalised value is read too
        "d = Div(k, c)",
        "d = Add(c, c)",
        "wide = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]> () d = Mul(c, wide)",  # along the width
    ],
)
def test_rule_8_leaves_what_is_not_an_affine_map_of_one_convolution(after: str) -> None:
    body = f"c = Conv(image, w) {after} r = Relu(d) p = GlobalAveragePool(r) scores = Flatten(p)"
    tensors = (WEIGHT, *norm_tensors())
    assert sum(operators(rewritten(graph(body, tensors=tensors))).values()) > 4


def test_rule_8_gives_convolutions_that_share_weights_their_own() -> None:
    body = """
        c = Conv(image, w) d = BatchNormalization(c, g, b, m, v) e = Conv(image, w) f = Add(d, e)
        p = GlobalAveragePool(f) scores = Flatten(p)
    """
    assert "BatchNormalization" not in operators(rewritten(graph(body, tensors=(WEIGHT, *norm_tensors()))))


def test_a_value_that_is_asked_for_survives_folding() -> None:
    body = "c = Conv(image, w) d = BatchNormalization(c, g, b, m, v) p = GlobalAveragePool(d) scores = Flatten(p)"
    data = graph(body, tensors=(WEIGHT, *norm_tensors()))
    model = onnx.load_model_from_string(data)
    signature = read_signature(artifact_from_bytes("m", data))
    plain = normalise(model, signature, ["c", "scores"])
    images = noise((2, 3, 8, 8), np.dtype(np.float32), seed=1)
    ours = run_session(open_session(plain.SerializeToString()), {"image": images})
    model.graph.output.append(onnx.ValueInfoProto(name="c"))
    theirs = run_session(open_session(model.SerializeToString()), {"image": images})
    for name in ("c", "scores"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5)


def test_a_fixed_batch_is_probed_at_that_batch() -> None:
    body = "c = Conv(image, w) s = Shape(c) n = Slice(s, a, e) f = Concat <axis = 0> (n, r) scores = Reshape(c, f)"
    ends = {"a": [0], "e": [1], "r": [-1]}
    tensors = (WEIGHT, *(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in ends.items()))
    assert target(rewritten(graph(body, image="float[2,3,8,8] image", tensors=tensors))) == [2, -1]


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 17), (True, 18)])
def test_what_torch_exports_becomes_plain(dynamo: bool, opset: int) -> None:
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, bias=False)
            self.norm = torch.nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.norm(self.conv(x)))
            return y.reshape(y.shape[0], 2, -1).mean(dim=2)

    torch.manual_seed(0)
    plain = rewritten(export(Network(), (3, 8, 8), dynamo=dynamo, opset=opset).SerializeToString())
    assert operators(plain) == {"Conv": 1, "Relu": 1, "Reshape": 1, "ReduceMean": 1}
