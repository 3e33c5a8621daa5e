"""ONNX's own node test cases as classifiers have them: weights as initialisers, at every opset that can express them.

The suite that comes with onnx states each case at the operator's newest schema and passes everything as an input. A
case is restated at an older schema where that has the same inputs and attributes, or has as an attribute what is now
an input; onnxruntime at that opset is then the oracle, so a restated case need not mean the same as the original.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

Array = npt.NDArray[np.generic]

_OPERATOR_NAMES = """
    Conv ConvTranspose Gemm MatMul BatchNormalization Relu LeakyRelu PRelu Elu Selu Clip HardSwish HardSigmoid Sigmoid
    Softplus Softsign Tanh Gelu Mish Swish Celu ThresholdedRelu LayerNormalization RMSNormalization Softmax LogSoftmax
    MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool Resize Upsample Pad Concat Split Slice
    Reshape Transpose Flatten Squeeze Unsqueeze Gather ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1
    ReduceL2 ReduceSumSquare ReduceLogSumExp Shape Size Expand Where Constant ConstantOfShape Cast CastLike Einsum
    QuantizeLinear DequantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear
    GroupNormalization InstanceNormalization LRN LpNormalization MeanVarianceNormalization Dropout Erf Attention Add Sub
    Mul Div Pow Sqrt Exp Log Abs Neg Reciprocal Min Max Mean Sum Identity ArgMax TopK Tile DepthToSpace SpaceToDepth
    Equal Greater Less Not And Or Range Mod Floor Ceil Round RotaryEmbedding
"""
OPERATORS = tuple(_OPERATOR_NAMES.split())
"""What a float classifier, or its quantised form, is made of."""

_FURTHER_NAMES = """
    Acos Acosh AffineGrid ArgMin Asin Asinh Atan Atanh Compress Cos Cosh CumSum EyeLike GRU GatherElements GatherND
    GreaterOrEqual GridSample Hardmax IsInf IsNaN LSTM LessOrEqual NonZero OneHot RNN ReduceLogSum ReverseSequence
    Scatter ScatterElements ScatterND Shrink Sign Sin Sinh Tan Trilu Unique Xor
"""
FURTHER_OPERATORS = tuple(_FURTHER_NAMES.split())
"""What else has a converter: tested, but not counted."""

FIRST_OPSET = 7

_T = TensorProto
_TYPES = frozenset(
    (_T.FLOAT, _T.FLOAT16, _T.BFLOAT16, _T.DOUBLE, _T.BOOL, _T.UINT8, _T.INT8, _T.INT16, _T.INT32, _T.INT64)
)
"""Element types of the cases; quantised operators also have the narrow integers."""

_QUANTISED_TYPES = _TYPES | {_T.UINT16, _T.INT4, _T.UINT4, _T.INT2, _T.UINT2}
_QUANTISED = ("QuantizeLinear", "DequantizeLinear")

_REST = tuple(range(1, 16))
_WITH_PARAMETERS = """
    BatchNormalization CastLike Clip Conv ConvInteger ConvTranspose DequantizeLinear Dropout Expand GRU Gather Gemm
    GroupNormalization InstanceNormalization LSTM LayerNormalization MatMulInteger PRelu Pad QLinearConv QLinearMatMul
    QuantizeLinear RMSNormalization RNN ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Reshape Resize RotaryEmbedding Slice Split Squeeze Tile TopK Unsqueeze Upsample
"""
_PARAMETERS: dict[str, tuple[int, ...]] = dict.fromkeys(_WITH_PARAMETERS.split(), _REST) | {
    "AffineGrid": (1,),
    "Attention": (6,),
    "CumSum": (1,),
    "OneHot": (1, 2),
    "Trilu": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
}
"""Inputs, by place, that a classifier has as constants."""

NOTHING = "nothing"
"""Name of an empty list of numbers, for what an older schema demands even where it does not use it."""


@dataclass(frozen=True)
class Case:
    """One case of the suite, with a single node."""

    name: str
    """Its name in the suite."""
    node: NodeProto
    """The node as the suite states it."""
    opset: int
    """The opset that the suite states it for: for most cases that of the operator's newest schema."""
    inputs: dict[str, Array]
    """Value of each of the node's inputs."""
    outputs: tuple[Array, ...]
    """What the suite expects."""

    @property
    def operator(self) -> str:
        """The operator."""
        return self.node.op_type

    @property
    def schema(self) -> defs.OpSchema:
        """The schema that the case is written for."""
        return defs.get_schema(self.operator, max_inclusive_version=self.opset)


@dataclass(frozen=True)
class StatedCase:
    """A case as a model of one opset."""

    case: Case
    """Where it comes from."""
    opset: int
    """Opset of the model; the first that has this schema version, or 7."""
    version: int
    """Schema version of the operator at that opset."""
    model: ModelProto
    """One node; parameters are initialisers."""
    inputs: dict[str, Array]
    """Data for the graph's inputs."""


@cache
def all_cases(operators: tuple[str, ...] = OPERATORS) -> tuple[Case, ...]:
    """Every case of the suite for one of the operators with one node and types that classifiers have."""
    from onnx.backend.test.case import node as suite

    np.random.seed(0)  # noqa: NPY002 (some cases of the suite draw from numpy's global generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = suite.collect_testcases(None)
    cases = [_case(item.name, item.model, item.data_sets[0]) for item in collected if _belongs(item.model, operators)]
    return tuple(sorted(cases, key=lambda case: case.name))


def _belongs(model: ModelProto, operators: tuple[str, ...]) -> bool:
    graph = model.graph
    if len(graph.node) != 1 or graph.node[0].domain or graph.node[0].op_type not in operators:
        return False
    values = [*graph.input, *graph.output]
    types = _QUANTISED_TYPES if graph.node[0].op_type in _QUANTISED else _TYPES
    return all(value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in types for value in values)


def _case(name: str, model: ModelProto, data: tuple[Sequence[object], Sequence[object]]) -> Case:
    names = [value.name for value in model.graph.input]
    inputs = dict(zip(names, map(_as_array, data[0]), strict=True)) | {NOTHING: np.zeros(0, dtype=np.float32)}
    (imported,) = model.opset_import
    return Case(name, model.graph.node[0], imported.version, inputs, tuple(map(_as_array, data[1])))


def _as_array(value: object) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def statements(case: Case, newest_opset: int) -> Iterator[StatedCase]:
    """The case at every schema version, from opset 7 on, that can express it."""
    seen = set()
    for opset in range(FIRST_OPSET, newest_opset + 1):
        schema = schema_of(case.operator, opset)
        if schema is None or schema.deprecated or schema.since_version in seen:
            continue
        seen.add(schema.since_version)
        node = _restated(case, schema)
        model = None if node is None else _model(case, node, opset)
        if model is not None:
            live = {value.name: case.inputs[value.name] for value in model.graph.input}
            yield StatedCase(case, opset, schema.since_version, model, live)


def schema_of(operator: str, opset: int) -> defs.OpSchema | None:
    """The operator's schema at an opset; None where it does not exist yet."""
    try:
        return defs.get_schema(operator, max_inclusive_version=opset)
    except defs.SchemaError:
        return None


def _restated(case: Case, schema: defs.OpSchema) -> NodeProto | None:
    """The case's node for another schema version, or None if that cannot say the same."""
    written = case.schema
    if schema.since_version == written.since_version:
        return case.node
    attributes = {item.name: item for item in case.node.attribute}
    inputs = _restated_inputs(case, written, schema, attributes)
    if inputs is None or len(case.node.output) > schema.max_output:
        return None
    for name in [name for name in attributes if name not in schema.attributes]:
        if not _is_default(attributes.pop(name), written.attributes[name]):
            return None
    node = helper.make_node(case.operator, inputs, list(case.node.output))
    node.attribute.extend(attributes.values())
    return node


def _restated_inputs(
    case: Case, written: defs.OpSchema, schema: defs.OpSchema, attributes: dict[str, AttributeProto]
) -> list[str] | None:
    """Inputs by the older schema's places; what was an attribute then is moved to `attributes`."""
    if len(written.inputs) == 1:
        return list(case.node.input)
    places = {parameter.name: place for place, parameter in enumerate(schema.inputs)}
    restated: dict[int, str] = {}
    for place, name in enumerate(case.node.input):
        label = written.inputs[min(place, len(written.inputs) - 1)].name
        old = _ATTRIBUTE_NAMES.get((case.operator, label), label)
        if not name:
            continue
        if label in places or (label not in _MOVED and place < len(schema.inputs)):
            restated[places.get(label, place)] = name
        elif old in schema.attributes and case.inputs[name].size:
            attributes[old] = _as_attribute(old, case.inputs[name], schema.attributes[old])
        elif case.inputs[name].size:
            return None
    required = [
        place for place, item in enumerate(schema.inputs) if item.option == defs.OpSchema.FormalParameterOption.Single
    ]
    for place in required:
        restated.setdefault(place, NOTHING)
    return [restated.get(place, "") for place in range(max(restated, default=-1) + 1)]


_MOVED = (
    "axes", "constant_value", "ends", "k", "max", "min", "pads", "ratio", "roi", "scales", "sizes", "split", "starts",
    "steps", "training_mode",
)  # fmt: skip
"""Inputs that older schemas have as attributes or not at all."""

_ATTRIBUTE_NAMES = {("Pad", "constant_value"): "value"}


def _as_attribute(name: str, value: Array, schema: defs.OpSchema.Attribute) -> AttributeProto:
    single = schema.type in (defs.OpSchema.AttrType.INT, defs.OpSchema.AttrType.FLOAT)
    return helper.make_attribute(name, value.reshape(-1)[0].item() if single else value.reshape(-1).tolist())


def _is_default(item: AttributeProto, schema: defs.OpSchema.Attribute) -> bool:
    default = schema.default_value
    return default.type == item.type and helper.get_attribute_value(default) == helper.get_attribute_value(item)


def _model(case: Case, node: NodeProto, opset: int) -> ModelProto | None:
    """A model of the node, or None if the schema of that opset does not allow its types."""
    parameters = _PARAMETERS.get(case.operator, ())
    constant = {name for place, name in enumerate(node.input) if place in parameters}
    live = {name: case.inputs[name] for name in node.input if name and name not in constant}
    graph = helper.make_graph(
        [node],
        case.name,
        [_value_info(name, value) for name, value in live.items()],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        [numpy_helper.from_array(case.inputs[name], name) for name in sorted(constant - {""})],
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports))
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True)
    except onnx.shape_inference.InferenceError:
        return None


def _value_info(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
